"""Search strategies: one driver each, all with the signature `search_…(run, decoder, prompt, first step)`."""
