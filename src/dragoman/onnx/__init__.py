"""ONNX Runtime: exported graphs as models that generate and transcribe, without PyTorch and JAX.

Not here: writing the graphs (`dragoman.torch.export`).
"""
