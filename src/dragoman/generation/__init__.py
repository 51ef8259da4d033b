"""Generation of text: options, the search over any array library, its Python driver and results."""
