"""The JAX backend; its twin is `dragoman.torch`."""
