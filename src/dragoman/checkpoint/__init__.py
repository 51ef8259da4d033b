"""Checkpoints: finding files, reading and writing tensors, and mapping their names."""
