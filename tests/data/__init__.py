"""Tests of files, containers, data sets and embedded sounds."""
