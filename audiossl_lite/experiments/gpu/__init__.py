"""Everything that needs a GPU, as a list of stages: `python -m audiossl_lite gpu`, or `make gpu`.

Read `stages.py` (what is measured, in order of worth), then `runner.py` (how the time is divided). Each other file is
one kind of stage: card, right, fast, fed; the stages on real sounds are in `real_sounds`.
"""
