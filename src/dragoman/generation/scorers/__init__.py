"""Scorers for shallow fusion: hot words, n-grams, language models."""
