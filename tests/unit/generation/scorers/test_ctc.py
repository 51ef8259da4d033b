"""Joint CTC/attention decoding: prefix scores against all paths, and whole searches against the definition."""

import math
from collections import defaultdict
from itertools import groupby, pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.api.outputs import EncoderOutput
from dragoman.checkpoint.ctc_head import CTC_HEAD, CtcHead
from dragoman.errors import CheckpointError, GenerationError
from dragoman.generation.scorers.ctc import ctc_scorers
from dragoman.testing import tiny_config

BLANK, END = 4, 3
FRAMES = (5, 3)


def transcripts(log_probs: np.ndarray) -> dict[tuple[int, ...], float]:
    """Return the probability of each transcript, summed over all paths."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in product(range(BLANK + 1), repeat=len(log_probs)):
        merged = tuple(token for token, _ in groupby(path) if token != BLANK)
        found[merged] += math.exp(sum(log_probs[frame, token] for frame, token in enumerate(path)))
    return found


def test_scores_are_the_sums_over_all_paths() -> None:
    """Two utterances of different lengths, with repeated tokens, a prompt of two tokens, and beams that change rows."""
    random = np.random.default_rng(0)
    states = random.standard_normal((2, max(FRAMES), 6)).astype(np.float32)
    head = CtcHead(random.standard_normal((5, 6)).astype(np.float32), random.standard_normal(5).astype(np.float32))
    encoded = EncoderOutput(last_hidden_state=states, lengths=np.array(FRAMES))
    (scorer,) = ctc_scorers(head, 0.5, encoded, [END])
    assert scorer.weight == pytest.approx(1.0)
    known = [transcripts(head.log_probs(own[:length])) for own, length in zip(states, FRAMES, strict=True)]

    def log_prob(row: int, prefix: tuple[int, ...], *, whole: bool = False) -> float:
        found = known[row].items()
        return math.log(sum(p for text, p in found if text == prefix or (not whole and text[: len(prefix)] == prefix)))

    step = scorer.model.start(np.array([[9, 1], [9, 2]]))
    state = scorer.model.expand(step.state, 2)
    rows, prefixes = [0, 0, 1, 1], [(1,), (1,), (2,), (2,)]
    for tokens, parents in (([1, 0, 2, 1], [0, 1, 2, 3]), ([0, 1, 1, 0], [1, 1, 3, 2])):
        step = scorer.model.step(np.array(tokens), scorer.model.select(state, np.array(parents)))
        state = step.state
        prefixes = [(*prefixes[parent], token) for parent, token in zip(parents, tokens, strict=True)]
        for place, prefix in enumerate(prefixes):
            repeats = sum(one == other for one, other in pairwise(prefix))
            if len(prefix) + repeats > FRAMES[rows[place]]:
                continue  # the tokens do not fit into the frames
            before = log_prob(rows[place], prefix)
            assert step.logits[place, END] == pytest.approx(
                log_prob(rows[place], prefix, whole=True) - before, abs=1e-5
            )
            for token in (0, 1, 2):
                after = sum(p for text, p in known[rows[place]].items() if text[: len(prefix) + 1] == (*prefix, token))
                expected = math.log(after) - before if after else -100.0
                assert step.logits[place, token] == pytest.approx(expected, abs=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2", initializer_range=0.2),
        decoder=tiny_config("bert"),
        decoder_start_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
    )
    model = SpeechEncoderDecoderModel(config=config)
    layer = torch.nn.Linear(model.encoder.spec.output_width, model.decoder.spec.vocab_size + 1)
    torch.nn.init.normal_(layer.weight, std=0.5)
    model.ctc_scoring_head = CtcHead(*(parameter.detach().numpy() for parameter in layer.parameters()))
    path = tmp_path_factory.mktemp("ctc")
    model.save_pretrained(path)
    return path


def test_a_search_finds_the_best_joint_score_in_both_backends(folder: Path) -> None:
    """The score of a transcript is that of the decoder and PyTorch's CTC loss, weighted."""
    model = SpeechEncoderDecoderModel.from_pretrained(folder)
    waves = torch.randn(2, 1600, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 1600, dtype=torch.long)
    mask[1, 900:] = 0
    audio = {"input_values": waves * mask, "attention_mask": mask}
    options = {"num_beams": 4, "max_new_tokens": 6, "length_penalty": 0.0}
    output = model.generate(
        **audio, **options, ctc_weight=0.4, return_dict_in_generate=True, output_scores=True, token_log_probs=True
    )
    with torch.no_grad():
        encoded = model.encode(*audio.values())
    frames = [len(encoded.last_hidden_state[0])] if encoded.lengths is None else encoded.lengths.tolist()
    for row, sequence in enumerate(output.sequences):
        tokens = [token for token in sequence[1:].tolist() if token != 1]
        ended = tokens[-1] == 2
        log_probs = torch.from_numpy(
            model.ctc_scoring_head.log_probs(encoded.last_hidden_state[row, : frames[row]].numpy())
        )
        spoken = torch.tensor(tokens[:-1] if ended else tokens)
        ctc = -torch.nn.functional.ctc_loss(
            log_probs, spoken, torch.tensor(frames[row]), torch.tensor(len(spoken)), blank=99, reduction="sum"
        )
        expected = output.token_log_probs[row].sum() + 0.4 / 0.6 * ctc
        if ended:
            assert output.sequences_scores[row].item() == pytest.approx(expected.item(), abs=1e-3)
        else:  # as the beginning of a transcript it is at least as likely as the whole one
            assert output.sequences_scores[row].item() >= expected.item() - 1e-3
    plain = model.generate(**audio, **options)
    assert plain.tolist() != output.sequences.tolist()
    twin = FlaxSpeechEncoderDecoderModel.from_pretrained(folder)
    arrays = {name: tensor.numpy() for name, tensor in audio.items()}
    assert np.array_equal(twin.generate(**arrays, **options, ctc_weight=0.4).sequences, output.sequences)


def test_the_head_is_saved_beside_a_model_that_transformers_loads(folder: Path, tmp_path: Path) -> None:
    _, found = transformers.SpeechEncoderDecoderModel.from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    model = SpeechEncoderDecoderModel.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    assert (tmp_path / CTC_HEAD).read_bytes() == (folder / CTC_HEAD).read_bytes()
    model.ctc_scoring_head = None
    model.save_pretrained(tmp_path)
    assert not (tmp_path / CTC_HEAD).exists()
    with pytest.raises(GenerationError, match="the model has no head for CTC"):
        model.generate(torch.zeros(1, 1600), ctc_weight=0.3)
    CtcHead(np.zeros((5, 4), np.float32), np.zeros(5, np.float32)).files()[CTC_HEAD](tmp_path / CTC_HEAD)
    with pytest.raises(CheckpointError, match="is of another model"):
        SpeechEncoderDecoderModel.from_pretrained(tmp_path)
