"""The PyTorch backend; its twin is `dragoman.jax`."""
