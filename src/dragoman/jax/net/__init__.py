"""The networks in JAX; how they are loaded and saved is not their business."""
