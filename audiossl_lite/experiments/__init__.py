"""From settings to numbers: runs and studies of the chapters, jobs of the papers, their cost, the stages of a GPU."""
