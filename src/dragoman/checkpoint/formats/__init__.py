"""Readers of weight formats other than safetensors; nothing outside `dragoman.checkpoint` imports them."""
