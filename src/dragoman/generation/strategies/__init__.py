"""Search strategies beyond greedy search, beam search and sampling."""
