"""Sound on its way to a model: reading (`io`), features (`features`), where speech is (`segment`). NumPy only."""
