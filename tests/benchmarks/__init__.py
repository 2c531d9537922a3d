"""Timings of the library's fast paths beside the obvious ones: `make bench`.

Both sides of a pair run in the same process, one after the other, on the same inputs, and must agree;
what is reported is their ratio. Absolute times differ from machine to machine and are shown for
orientation only. No test asserts a time.
"""
