"""Models as ONNX graphs, each checked against PyTorch before it is kept.

Lives here: the graphs (`modules`), their files (`tracing`), the comparison (`checking`) and the whole job (`folder`).
Not here: running them without PyTorch (`dragoman.onnx`).
"""
