"""Every method trained and scored on a corpus of real sounds, for `workshop`, `gpu` and the studies around them.

`sounds` joins the clips and draws the few-shot grid, `recipes` puts a method together on them, `learnt` trains and
scores it, `scores` holds accuracies by task, `task` is what a stage of a run is handed.
"""
