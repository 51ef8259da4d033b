"""Caches: decoding in pieces equals decoding at once; beams share the memory of their utterance."""

from collections.abc import Callable, Iterator

import pytest
import torch

from dragoman import SpeechEncoderDecoderModel, TextDecoder
from dragoman.errors import GenerationError
from dragoman.testing import TOLERANCES
from dragoman.torch.net.cache import Cache, Memory

Build = Callable[..., SpeechEncoderDecoderModel]
# One of each kind of positions, embeddings and blocks.
DECODERS = (
    "bert",
    "gpt2",
    "bart",
    "mbart",
    "whisper",
    "roberta",
    "electra",
    "xglm",
    "marian",
    "blenderbot-small",
    "t5",
)
BATCH, TOKENS, FRAMES = 3, 11, 7


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest, build: Build) -> TextDecoder:
    return build(decoder=request.param).decoder


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(3, 99, (BATCH, TOKENS), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def states() -> torch.Tensor:
    return torch.randn(BATCH, FRAMES, 24, generator=torch.Generator().manual_seed(2))


MASK = torch.arange(FRAMES) < torch.tensor([[7], [4], [1]])


@pytest.mark.parametrize("pieces", [(1,) * TOKENS, (4, 1, 1, 5), (1, 10), (11,)], ids=str)
@pytest.mark.parametrize("capacity", [TOKENS, 1, 64])
def test_decoding_in_pieces_equals_decoding_at_once(
    decoder: TextDecoder, tokens: torch.Tensor, states: torch.Tensor, pieces: tuple[int, ...], capacity: int
) -> None:
    whole = decoder(tokens, encoder_hidden_states=states, encoder_attention_mask=MASK).logits
    for memory in Memory(states=states, mask=MASK), decoder.project_memory(states, MASK):
        cache: Cache | None = decoder.new_cache(BATCH, capacity)
        logits = []
        for piece in tokens.split(pieces, dim=1):
            out, cache = decoder.decode(piece, memory, cache)
            logits.append(decoder.logits(out.states))
        assert cache is not None
        assert cache.length == TOKENS
        assert (torch.cat(logits, 1) - whole).abs().max() <= TOLERANCES["cached"]


def test_cache_arguments_of_transformers(decoder: TextDecoder, tokens: torch.Tensor, states: torch.Tensor) -> None:
    whole = decoder(tokens, encoder_hidden_states=states).logits
    first = decoder(tokens[:, :6], encoder_hidden_states=states, use_cache=True)
    second = decoder(tokens[:, 6:], encoder_hidden_states=states, past_key_values=first.past_key_values)
    both = torch.cat([first.logits, second.logits], 1)
    assert (both - whole).abs().max() <= TOLERANCES["cached"]


def test_mask_over_cached_tokens(decoder: TextDecoder, tokens: torch.Tensor, states: torch.Tensor) -> None:
    mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
    mask[1, 2:4] = 0
    whole = decoder(tokens, mask, encoder_hidden_states=states).logits
    first = decoder(tokens[:, :5], mask[:, :5], encoder_hidden_states=states, use_cache=True)
    second = decoder(tokens[:, 5:], mask, encoder_hidden_states=states, past_key_values=first.past_key_values)
    assert (second.logits - whole[:, 5:]).abs().max() <= TOLERANCES["cached"]


@pytest.mark.parametrize("beams", [1, 2, 5])
def test_beams_share_the_memory(decoder: TextDecoder, tokens: torch.Tensor, states: torch.Tensor, beams: int) -> None:
    """More rows than utterances: consecutive rows attend to one utterance, as if it was copied for each."""
    rows = torch.randint(3, 99, (BATCH * beams, 4), generator=torch.Generator().manual_seed(3))
    copied = decoder(
        rows,
        encoder_hidden_states=states.repeat_interleave(beams, 0),
        encoder_attention_mask=MASK.repeat_interleave(beams, 0),
    ).logits
    memory = decoder.project_memory(states, MASK)
    out, cache = decoder.decode(rows[:, :3], memory, decoder.new_cache(len(rows), 4))
    assert memory.keys is not None
    assert memory.keys.shape[1] == BATCH
    last, _ = decoder.decode(rows[:, 3:], memory, cache)
    logits = torch.cat([decoder.logits(out.states), decoder.logits(last.states)], 1)
    assert (logits - copied).abs().max() <= TOLERANCES["cached"]


def test_beams_give_their_own_attention_weights(decoder: TextDecoder, states: torch.Tensor) -> None:
    rows = torch.randint(3, 99, (BATCH * 2, 4), generator=torch.Generator().manual_seed(3))
    memory = decoder.project_memory(states, MASK)
    shared, _ = decoder.decode(rows, memory, weights=True)
    copied, _ = decoder.decode(
        rows, Memory(states=states.repeat_interleave(2, 0), mask=MASK.repeat_interleave(2, 0)), weights=True
    )
    assert shared.cross_weights is not None
    assert copied.cross_weights is not None
    for one, other in zip(shared.cross_weights, copied.cross_weights, strict=True):
        assert one is not None
        assert other is not None
        assert one.shape == (BATCH * 2, 4, 4, FRAMES)
        assert (one - other).abs().max() <= TOLERANCES["cached"]
        assert (one.sum(-1) - 1).abs().max() < 1e-5


def test_selected_rows_continue_others(decoder: TextDecoder, tokens: torch.Tensor, states: torch.Tensor) -> None:
    """As in each step of beam search."""
    memory = Memory(states=states.repeat_interleave(2, 0))
    rows = tokens.repeat_interleave(2, 0)
    parents = torch.tensor([1, 1, 3, 2, 4, 4])
    rows[1::2, 2] = 5
    _, cache = decoder.decode(rows[:, :5], memory, decoder.new_cache(6, 16))
    assert cache is not None
    out, _ = decoder.decode(rows[:, 5:6], memory, cache.selected(parents))
    expected = decoder(torch.cat([rows[parents, :5], rows[:, 5:6]], 1), encoder_hidden_states=memory.states).logits
    assert (decoder.logits(out.states) - expected[:, -1:]).abs().max() <= TOLERANCES["cached"]


def test_expanding_repeats_each_row(decoder: TextDecoder, tokens: torch.Tensor, states: torch.Tensor) -> None:
    memory = decoder.project_memory(states, None)
    _, cache = decoder.decode(tokens, memory, decoder.new_cache(BATCH, TOKENS))
    assert cache is not None
    wide = cache.expanded(3)
    assert wide.length == TOKENS
    assert wide.keys.shape[1] == BATCH * 3
    assert torch.equal(wide.keys[:, 3:6], cache.keys[:, 1:2].expand(-1, 3, -1, -1, -1))


def test_sequence_longer_than_the_positions_is_refused(decoder: TextDecoder, states: torch.Tensor) -> None:
    most = decoder.spec.num_positions
    tokens = torch.zeros(BATCH, most + 1, dtype=torch.long)
    with pytest.raises(GenerationError, match=f"positions for {most} tokens, but the sequence has {most + 1}"):
        decoder(tokens, encoder_hidden_states=states)
    memory = Memory(states=states)
    _, cache = decoder.decode(tokens[:, :most], memory, decoder.new_cache(BATCH, 4))
    with pytest.raises(GenerationError, match=f"the sequence has {most + 1}"):
        decoder.decode(tokens[:, :1], memory, cache)


@pytest.mark.parametrize("name", [name for name in DECODERS if name not in ("xglm", "marian", "t5")])
def test_generation_equals_decoding_without_a_cache(build: Build, name: str) -> None:
    model = build(decoder=name, forced_eos_token_id=None)
    model.config.decoder.forced_eos_token_id = None
    model.decoder.embed.positions.weight.mul_(5.0)  # otherwise the random network repeats one token
    audio = torch.randn(4, 600, generator=torch.Generator().manual_seed(4))
    prompt = torch.randint(3, 99, (4, 3), generator=torch.Generator().manual_seed(5))
    texts = prompt = torch.cat([torch.zeros(4, 1, dtype=torch.long), prompt], 1)
    ended = torch.zeros(4, dtype=torch.bool)
    for _ in range(10):
        best = model(audio, decoder_input_ids=texts).logits[:, -1].argmax(-1).masked_fill(ended, 1)
        ended |= best == 2
        texts = torch.cat([texts, best[:, None]], 1)
    written = model.generate(audio, decoder_input_ids=prompt, max_new_tokens=10)
    assert written.tolist() == texts[:, : written.shape[1]].tolist()
    assert len({tuple(text[4:]) for text in texts.tolist()}) > 1
