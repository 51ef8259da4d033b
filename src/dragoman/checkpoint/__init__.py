"""Checkpoints: where they are, which files hold what, how tensors are read and written, under whose names."""
