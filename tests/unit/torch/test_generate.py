"""The search strategies through the model's own `generate`."""

from typing import Any

import pytest
import torch

import dragoman
from dragoman.errors import GenerationError
from dragoman.generation.scorers.fusion import Scorer
from dragoman.generation.scorers.hotwords import HotWords
from dragoman.generation.streamers import TextIteratorStreamer
from dragoman.testing import tiny_config
from dragoman.torch.cached import CachedDecoder


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    decoder = tiny_config("bart")
    built = dragoman.SpeechEncoderDecoderModel(
        config=dragoman.SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=decoder)
    )
    with torch.no_grad():
        for name, weight in built.named_parameters():
            if "embed.tokens" in name or "cross_attn" in name:
                weight.mul_(20)
    return built.eval()


@pytest.fixture(scope="module")
def audio() -> torch.Tensor:
    return torch.randn(3, 1600, generator=torch.Generator().manual_seed(1))


def test_draft_keeps_the_result(model: Any, audio: torch.Tensor) -> None:
    torch.manual_seed(5)
    small = tiny_config("bart").copy(decoder_layers=1)
    draft = dragoman.SpeechEncoderDecoderModel(
        config=dragoman.SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=small)
    ).eval()
    length = {"max_new_tokens": 30, "min_new_tokens": 20}
    plain = model.generate(audio, **length)
    assert plain.shape[1] > 20
    assert torch.equal(model.generate(audio, **length, assistant_model=draft), plain)
    assert torch.equal(model.generate(audio, **length, assistant_model=model), plain)


def test_contrastive_search_uses_hidden_states(model: Any, audio: torch.Tensor) -> None:
    texts = model.generate(audio, penalty_alpha=0.6, top_k=4, max_new_tokens=12)
    assert texts.shape[0] == 3
    nearly_greedy = model.generate(audio, penalty_alpha=1e-9, top_k=4, max_new_tokens=12)
    assert torch.equal(nearly_greedy, model.generate(audio, max_new_tokens=12))


def test_stopping_criteria_end_sequences(model: Any, audio: torch.Tensor) -> None:
    def long_enough(tokens: torch.Tensor, scores: Any) -> bool:
        return tokens.shape[1] >= 5

    texts = model.generate(audio, max_new_tokens=30, min_new_tokens=20, stopping_criteria=[long_enough])
    assert texts.shape[1] == 5


def test_streamer_receives_every_token(model: Any, audio: torch.Tensor) -> None:
    class Words:
        def decode(self, ids: Any, **_: Any) -> str:
            return " ".join(f"t{int(i)}" for i in ids)

    streamer = TextIteratorStreamer(Words(), skip_prompt=False)
    texts = model.generate(audio[:1], max_new_tokens=8, streamer=streamer)
    assert "".join(streamer).split() == [f"t{int(i)}" for i in texts[0]]


def test_beams_of_a_batch_equal_single_utterances(model: Any, audio: torch.Tensor) -> None:
    """Groups, forced words and beams share the same cache; utterances of a batch are independent."""
    options: list[dict[str, Any]] = [
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7},
        {"num_beams": 4, "force_words_ids": [[7]]},
        {"num_beams": 3, "do_sample": True, "seed": [1, 2, 3]},
        {"do_sample": True, "num_return_sequences": 2, "seed": [1, 2, 3]},
    ]
    for chosen in options:
        together = model.generate(audio, max_new_tokens=10, **chosen)
        one = {**chosen, **({"seed": [2]} if "seed" in chosen else {})}
        alone = model.generate(audio[1:2], max_new_tokens=10, **one)
        rows = len(alone)
        length = alone.shape[1]
        assert torch.equal(together[rows : 2 * rows, :length], alone), chosen


@pytest.mark.parametrize("num_beams", [1, 3])
def test_scorers_change_the_transcript(model: Any, audio: torch.Tensor, num_beams: int) -> None:
    """Hot words are generated; a language model adds the scores of its own forward pass."""
    vocab = model.config.decoder.vocab_size
    options = {"num_beams": num_beams, "max_new_tokens": 6, "min_new_tokens": 6}
    plain = model.generate(audio, **options)
    loud = Scorer(model=HotWords({(7, 9, 8): 50.0}, vocab_size=vocab))
    assert all(row[1:4] == [7, 9, 8] for row in model.generate(audio, **options, scorers=[loud]).tolist())

    torch.manual_seed(3)
    config = tiny_config("gpt2", vocab_size=vocab, initializer_range=0.5, add_cross_attention=False)
    lm = dragoman.GPT2LMHeadModel(config).eval()
    scorer = Scorer(model=CachedDecoder(lm, None, None, 16), weight=30.0, normalize=True)
    scored = model.generate(audio, **options, scorers=[scorer])
    assert not torch.equal(scored, plain)
    with torch.no_grad():
        best = lm(scored[:, :-1]).logits[:, 1:]
    best[..., 2] = -torch.inf  # no end before six tokens
    if num_beams == 1:  # its weight is so large that it decides alone
        assert torch.equal(best.argmax(-1)[:, :-1], scored[:, 2:-1])  # BART is forced to end with the last
    silent = Scorer(model=scorer.model, weight=0.0, normalize=True)
    assert torch.equal(model.generate(audio, **options, scorers=[silent]), plain)


def test_old_name_of_scorers_warns(model: Any, audio: torch.Tensor) -> None:
    scorer = Scorer(model=HotWords({(7, 9, 8): 50.0}, vocab_size=model.config.decoder.vocab_size))
    options = {"max_new_tokens": 6, "min_new_tokens": 6}
    with pytest.warns(FutureWarning, match="`voices` is called `scorers` now"):
        found = model.generate(audio, **options, voices=[scorer])
    assert torch.equal(found, model.generate(audio, **options, scorers=[scorer]))


def test_scorers_with_a_draft_are_refused(model: Any, audio: torch.Tensor) -> None:
    scorer = Scorer(model=HotWords({(7,): 1.0}, vocab_size=model.config.decoder.vocab_size))
    with pytest.raises(
        GenerationError, match="Speculative decoding checks proposals against the decoder's scores alone"
    ):
        model.generate(audio, assistant_model=model, scorers=[scorer])
    with pytest.raises(GenerationError, match="`token_log_probs` are recorded by"):
        model.generate(audio, num_beams=2, force_words_ids=[[7]], token_log_probs=True)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_token_log_probs_equal_the_forward_pass(model: Any, audio: torch.Tensor, num_beams: int) -> None:
    found = model.generate(
        audio,
        num_beams=num_beams,
        max_new_tokens=8,
        min_new_tokens=8,
        repetition_penalty=1.4,
        return_dict_in_generate=True,
        token_log_probs=True,
    )
    with torch.no_grad():
        logits = model(audio, decoder_input_ids=found.sequences[:, :-1]).logits.log_softmax(-1)
    expected = logits.gather(-1, found.sequences[:, 1:, None])[..., 0]
    assert torch.allclose(found.token_log_probs, expected, atol=1e-5)
