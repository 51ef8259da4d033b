"""The graph of an encoder with its attention mask has only operations that ONNX has."""

import pytest
import torch

from dragoman import SpeechEncoder
from dragoman.testing import tiny_config

# Operations of PyTorch that its exporter to ONNX does not translate.
LACKING = {"aten.sort.stable", "aten.argsort.stable"}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("family", ["wav2vec2", "wavlm", "sew", "wav2vec2-conformer", "wav2vec2-bert", "sew-d"])
def test_mask_needs_no_sort(family: str) -> None:
    encoder = SpeechEncoder(tiny_config(family)).eval()
    size = 1600 if encoder.spec.input_name == "input_values" else 60
    audio = torch.randn(encoder.spec.frontend.input_shape(2, size))
    program = torch.export.export(encoder, (audio, torch.ones(2, size, dtype=torch.long))).run_decompositions()
    assert not LACKING & {str(node.target) for node in program.graph.nodes}
