"""`export`: a model's folder with graphs beside its weights."""

import os
import shutil
import tempfile
from pathlib import Path

import torch

from dragoman._lazy import require
from dragoman.errors import ConfigError, DragomanError
from dragoman.onnx.graphs import FOLDER, WEIGHTS, GraphFacts
from dragoman.onnx.short_windows import SHORT, pairs
from dragoman.spec import PieceFrontendSpec
from dragoman.torch.export.checking import TOLERANCE, Differences, check
from dragoman.torch.export.examples import axes_of, inputs_of
from dragoman.torch.export.modules import GRAPHS
from dragoman.torch.export.quantizing import quantize
from dragoman.torch.export.tracing import WeightFile, trace
from dragoman.torch.model import SpeechEncoderDecoderModel
from dragoman.torch.short_windows import has_short_windows


def facts_of(model: SpeechEncoderDecoderModel, compute_type: str) -> GraphFacts:
    """Return what a runtime has to know about a model's graphs."""
    stack = model.decoder.spec.stack
    return GraphFacts(
        compute_type=compute_type,
        masked=model.encoder.spec.frontend.masked,
        prefix=stack.block.cross_attn is None,
        num_layers=stack.num_layers,
        kv_heads=stack.block.self_attn.kv_heads,
        head_dim=stack.block.self_attn.head_dim,
    )


def export(
    model: SpeechEncoderDecoderModel, folder: Path, compute_type: str = "float32", *, weights: bool = True
) -> Differences:
    """Write a model's folder and its graphs, and compare them with the model.

    Args:
        model: The model, in float32 on the CPU; a LoRA is folded into its layers.
        folder: Made if it does not exist; graphs in it are replaced.
        compute_type: One of `TOLERANCE`.
        weights: Write the model itself too, and not only the graphs.

    Returns:
        How far the graphs are from PyTorch.

    Raises:
        ConfigError: If the compute type is unknown, or a part of the model has no graph.
        CheckpointError: If the graphs differ too much from PyTorch. The folder then has no new graphs.
        DragomanError: If the folder cannot be written.
    """
    if compute_type not in TOLERANCE:
        raise ConfigError(f"`compute_type` must be {' or '.join(TOLERANCE)}, but is {compute_type!r}.")
    if isinstance(model.encoder.spec.frontend, PieceFrontendSpec):
        raise ConfigError(
            f"A {model.config.encoder.model_type} has no graph: it cuts a clip of any length into windows, but a graph "
            "has a fixed number of them. Use PyTorch or JAX."
        )
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise ConfigError(f"A model must be in float32 on the CPU for this, but is {model.dtype} on {model.device}.")
    require("onnx", "`dragoman export`")
    model = model.eval()
    if any(model._backend.loras(part) for part in (model.encoder, model.decoder)):
        model.merge_lora()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".dragoman-export-") as scratch:
        staging = Path(scratch)
        model.config.save_pretrained(staging)
        _write_graphs(model, staging, facts_of(model, compute_type))
        found = check(model, staging, compute_type)
        if weights:
            model.save_pretrained(folder)
        try:
            shutil.rmtree(folder / FOLDER, ignore_errors=True)
            os.rename(staging / FOLDER, folder / FOLDER)
        except OSError as error:
            raise DragomanError(f"{folder / FOLDER} cannot be replaced: {error}. Choose another folder.") from error
    return found


def _write_graphs(model: SpeechEncoderDecoderModel, folder: Path, facts: GraphFacts) -> None:
    """Write all graphs, their weights and their description."""
    onnx = require("onnx", "`dragoman export`")
    (folder / FOLDER).mkdir()
    outputs = {
        "encoder": facts.encoded,
        SHORT: ("states", *pairs(model.encoder.spec, "present")),
        "memory": facts.memory,
        "decoder": ("logits", *facts.pairs("present")),
        "alignment": ("weights",),
    }
    with open(folder / FOLDER / WEIGHTS, "wb") as file:
        weights = WeightFile(file)
        short = (SHORT,) if has_short_windows(model.encoder.spec) else ()
        for name in (*facts.files, *short):
            inputs = inputs_of(name, model, facts)
            axes = {one: axes_of(one, model) for one in (*inputs, *outputs[name])}
            graph = trace(GRAPHS[name](model, facts), inputs, outputs[name], axes)
            if facts.compute_type == "int8":
                quantize(graph)
            weights.take(graph)
            onnx.save(graph, folder / FOLDER / f"{name}.onnx")
    GraphFacts.path(folder).write_bytes(facts.to_json())
