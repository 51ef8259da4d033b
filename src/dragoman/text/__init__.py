"""Tokenizers: texts to token ids and back, and the files they are read from."""
