"""Every experiment's settings at every scale, and where each value of the papers comes from."""
