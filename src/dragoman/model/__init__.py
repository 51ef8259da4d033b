"""The shell around a model, written once for every backend: loading, warm start, saving, arguments, LoRA."""
