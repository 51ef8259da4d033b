"""Text in, token ids out, and back: tokenizers, the files they are read from, and the normalisers of evaluation."""
