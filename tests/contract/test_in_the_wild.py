"""Code in the wild around speech encoder-decoder models, beside `transformers`, with the same numbers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import dragoman
from dragoman.testing import tiny_config
from dragoman.testing.tolerances import TOLERANCES

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])
Pair = Callable[[str, str], tuple[Any, Any]]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Build the same model in both libraries: `theirs, ours = pair("wav2vec2", "bart")`."""

    def build(encoder: str, decoder: str) -> tuple[Any, Any]:
        torch.manual_seed(0)
        flags = {"is_decoder": True, "add_cross_attention": True}
        kinds = (transformers.AutoConfig.for_model, json.loads)
        speech, text = (
            kinds[0](**kinds[1](config.to_json_string()))
            for config in (tiny_config(encoder, layerdrop=0.0), tiny_config(decoder, **flags))
        )
        config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(speech, text)
        config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 3, 1, 2
        theirs = transformers.SpeechEncoderDecoderModel(config).eval()
        with torch.no_grad():
            for parameter in theirs.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(3.0)
        theirs.generation_config.decoder_start_token_id = 3
        theirs.generation_config.pad_token_id, theirs.generation_config.eos_token_id = 1, 2
        theirs.save_pretrained(tmp_path / "model")
        return theirs, dragoman.SpeechEncoderDecoderModel.from_pretrained(tmp_path / "model")

    return build


@pytest.fixture
def speech() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {"input_values": torch.randn(2, 1600), "attention_mask": torch.ones(2, 1600, dtype=torch.long)}


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    ours, theirs = ours.detach(), theirs.detach()
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= TOLERANCES["logits"] * max(1.0, float(theirs.abs().max()))


def ids(model: Any, **given: Any) -> Tensor:
    tokens: Tensor = model.generate(**given, max_new_tokens=6, do_sample=False)
    return tokens


def test_multitask_training_with_a_ctc_head(pair: Pair, speech: dict[str, Tensor]) -> None:
    """A recogniser with two losses: attention, and CTC over the encoder's frames."""
    losses = []
    for model in pair("wav2vec2", "bart"):
        torch.manual_seed(3)
        head = nn.Linear(model.config.encoder.hidden_size, 12)
        output = model(**speech, labels=LABELS)
        states = model.encoder(**speech).last_hidden_state
        lengths = model.encoder._get_feat_extract_output_lengths(speech["attention_mask"].sum(-1)).long()
        mask = model.encoder._get_feature_vector_attention_mask(states.shape[1], speech["attention_mask"])
        assert mask.sum(-1).tolist() == lengths.tolist()
        log_probs = head(states).log_softmax(-1).transpose(0, 1)
        targets = LABELS[:, :3].clamp(min=1, max=11)
        ctc = nn.functional.ctc_loss(log_probs, targets, lengths, torch.tensor([3, 3]), zero_infinity=True)
        loss = 0.3 * ctc + 0.7 * output.loss
        loss.backward()
        losses.append((loss.detach(), model.enc_to_dec_proj.weight.grad))
    assert_same(losses[1][0], losses[0][0])
    assert_same(losses[1][1], losses[0][1])


@pytest.mark.parametrize(("encoder", "decoder"), [("wav2vec2", "bert"), ("hubert", "bart")])
def test_freezing_and_weight_decay_by_name(pair: Pair, speech: dict[str, Tensor], encoder: str, decoder: str) -> None:
    """Fine-tuning with a frozen front end and lower layers, and no decay of biases and norms."""
    after = []
    no_decay = ["bias", "LayerNorm.weight", "layer_norm.weight", "layernorm_embedding.weight"]
    for model in pair(encoder, decoder):
        for name, parameter in model.named_parameters():
            if name.startswith("encoder.feature_extractor") or "encoder.layers.0." in name:
                parameter.requires_grad = False
        trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for n, p in trained if not any(part in n for part in no_decay)], "weight_decay": 0.5},
            {"params": [p for n, p in trained if any(part in n for part in no_decay)], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.SGD(groups, lr=0.05)
        for _ in range(2):
            optimizer.zero_grad()
            model(**speech, labels=LABELS).loss.backward()
            optimizer.step()
        counts = [sum(p.numel() for p in group["params"]) for group in groups]
        after.append((counts, model(**speech, labels=LABELS).logits))
    assert after[0][0] == after[1][0]
    assert_same(after[1][1], after[0][1])


def test_layers_are_frozen_by_path(pair: Pair, speech: dict[str, Tensor]) -> None:
    """Freezing through the modules: the feature extractor, the lower layers, the embeddings."""
    counts = []
    for model in pair("wav2vec2", "bert"):
        model.encoder.feature_extractor._freeze_parameters()
        for layer in model.encoder.encoder.layers[:1]:
            for parameter in layer.parameters():
                parameter.requires_grad = False
        for module in (model.decoder.bert.embeddings, *model.decoder.bert.encoder.layer[:1]):
            module.requires_grad_(False)
        model(**speech, labels=LABELS).loss.backward()
        counts.append(sum(p.numel() for p in model.parameters() if p.grad is not None))
    assert counts[0] == counts[1]


def test_encoder_outputs_are_computed_once(pair: Pair, speech: dict[str, Tensor]) -> None:
    """A server that encodes a clip once and decodes it with several settings."""
    found = []
    for model in pair("wav2vec2", "bart"):
        with torch.no_grad():
            encoded = model.get_encoder()(**speech)
            logits = model(encoder_outputs=encoded, labels=LABELS).logits
        kinds = type(encoded)(last_hidden_state=encoded.last_hidden_state)
        found.append((logits, ids(model, encoder_outputs=encoded), ids(model, encoder_outputs=kinds, num_beams=3)))
    assert_same(found[1][0], found[0][0])
    assert found[0][1].tolist() == found[1][1].tolist()
    assert found[0][2].tolist() == found[1][2].tolist()


def prefers_ten(base: type[Any]) -> type[Any]:
    """Return a decoder that prefers token 10: the override that scripts write, over either library's class."""

    class Decoder(base):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = output.logits + 2.5 * nn.functional.one_hot(torch.tensor(10), output.logits.shape[-1])
            return output

    return Decoder


def test_a_subclass_of_a_decoder(pair: Pair, speech: dict[str, Tensor]) -> None:
    """A decoder whose `forward` changes the logits, put into a loaded model."""
    found = []
    for model, library in zip(pair("wav2vec2", "bert"), (transformers, dragoman), strict=True):
        decoder = prefers_ten(library.BertLMHeadModel)(model.config.decoder).eval()
        decoder.load_state_dict(model.decoder.state_dict())
        model.decoder = decoder
        with torch.no_grad():
            logits = model(**speech, labels=LABELS).logits
        found.append((logits, ids(model, **speech), ids(model, **speech, num_beams=3)))
    assert_same(found[1][0], found[0][0])
    assert [tokens.tolist() for tokens in found[0][1:]] == [tokens.tolist() for tokens in found[1][1:]]


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"repetition_penalty": 1.5}])
@pytest.mark.parametrize("decoder", ["bert", "bart", "gpt2"])
def test_a_decoder_generates_alone(pair: Pair, decoder: str, options: dict[str, Any]) -> None:
    """The language model inside is asked to continue a prompt, and to read states of the caller."""
    prompt = torch.tensor([[3, 5, 6], [3, 7, 8]])
    states = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
    given = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": 2, "pad_token_id": 1, **options}
    found = []
    for model in pair("wav2vec2", decoder):
        alone = model.decoder.generate(prompt, attention_mask=torch.ones_like(prompt), **given)
        found.append(alone.tolist())
    assert found[0] == found[1]
    ours = model.decoder.generate(prompt, encoder_hidden_states=states, **given)  # `transformers` fails here
    logits = model.decoder(ours[:, :-1], encoder_hidden_states=states).logits
    if not options:
        assert logits[:, 2].argmax(-1).tolist() == ours[:, 3].tolist()


def test_hooks_see_the_states_of_encoder_and_layers(pair: Pair, speech: dict[str, Tensor]) -> None:
    """Probing: states are recorded by hooks, in `forward` and at each step of `generate`."""
    found = []
    for model in pair("wav2vec2", "bart"):
        seen: dict[str, list[Tensor]] = {"encoder": [], "proj": [], "fc1": [], "decoder": []}

        def keep(name: str, seen: dict[str, list[Tensor]] = seen) -> Any:
            return lambda _, __, out: seen[name].append((out if isinstance(out, Tensor) else out[0]).detach())

        model.encoder.register_forward_hook(keep("encoder"))
        model.enc_to_dec_proj.register_forward_hook(keep("proj"))
        model.decoder.model.decoder.layers[1].fc1.register_forward_hook(keep("fc1"))
        model.decoder.register_forward_hook(lambda _, __, out, seen=seen: seen["decoder"].append(out.logits.detach()))
        with torch.no_grad():
            model(**speech, labels=LABELS)
            model.generate(**speech, max_new_tokens=4, min_new_tokens=4)
        found.append(seen)
    theirs, ours = found
    for name in ("encoder", "fc1", "decoder"):
        assert len(theirs[name]) == len(ours[name]), name
        for one, other in zip(ours[name], theirs[name], strict=True):
            assert_same(one, other)
    assert_same(ours["proj"][0], theirs["proj"][0])


def test_surgery_on_a_state_dict(pair: Pair, speech: dict[str, Tensor]) -> None:
    """The head is left out, and a part's tensors are cut out of the whole by their prefix."""
    theirs, ours = pair("wav2vec2", "bart")
    state = {name: tensor + 0.01 for name, tensor in theirs.state_dict().items()}
    cut = {name: tensor for name, tensor in state.items() if not name.startswith("decoder.lm_head")}
    cut = {name: tensor for name, tensor in cut.items() if "encoder_attn" not in name}
    encoder = {name.removeprefix("encoder."): t for name, t in state.items() if name.startswith("encoder.")}
    left_out = []
    for model in (theirs, ours):
        result = model.load_state_dict({**cut, "decoder.extra.weight": torch.ones(1)}, strict=False)
        left_out.append({name for name in result.missing_keys if "lm_head" not in name})
        assert list(result.unexpected_keys) == ["decoder.extra.weight"]
        assert list(model.encoder.load_state_dict(encoder).missing_keys) == []
        with pytest.raises(RuntimeError, match="Missing key"):
            model.load_state_dict({name: t for name, t in cut.items() if "fc1" not in name})
    assert left_out[0] == left_out[1]
    assert_same(ours(**speech, labels=LABELS).logits, theirs(**speech, labels=LABELS).logits)
    kept = {name for name in ours.state_dict() if not name.startswith("decoder.")}
    assert kept == {name for name in theirs.state_dict() if not name.startswith("decoder.")}


def test_the_end_of_a_conversion_from_fairseq(pair: Pair, speech: dict[str, Tensor]) -> None:
    """Tensors of another toolkit are set one by one, along paths of attributes."""
    theirs, ours = pair("wav2vec2", "bart")
    random = torch.Generator().manual_seed(2)
    values = {
        path: torch.randn(tensor.shape, generator=random)
        for path, tensor in theirs.named_parameters()
        if path.startswith(
            ("encoder.feature_extractor", "encoder.encoder.layers", "encoder.feature_projection", "enc_")
        )
        or path in ("encoder.masked_spec_embed", "decoder.model.decoder.layers.0.self_attn.q_proj.weight")
    }
    for model in (theirs, ours):
        for path, value in values.items():
            *words, last = path.split(".")
            pointer = model
            for word in words:
                pointer = getattr(pointer, word)
            found = getattr(pointer, last)
            assert found.shape == value.shape
            found.data = value.clone()
        layer = model.encoder.encoder.layers[0]
        layer.feed_forward.output_dense.bias.data = torch.ones(32)
        model.decoder.lm_head.weight.data.mul_(0.5)
    assert_same(ours(**speech, labels=LABELS).logits, theirs(**speech, labels=LABELS).logits)


def test_the_table_of_names_in_the_docs_holds(pair: Pair) -> None:
    page = (Path(__file__).parents[2] / "docs/comparison.md").read_text()
    rows = [line.split("|")[1:4] for line in page.partition("## Names")[2].splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    models = {decoder: pair("wav2vec2", decoder)[1] for decoder in ("bart", "bert", "gpt2")}
    for theirs, ours, family in rows:
        path, names = theirs.strip(" `").replace("{i}", "0"), [name.strip(" `") for name in ours.split(",")]
        model = models[family.strip().lower().replace("-", "") if family.strip() else "bart"]
        found = model
        for word in path.split("."):
            found = getattr(found, word)
        covered = {id(p) for p in ([found] if isinstance(found, Tensor) else found.parameters())}
        wanted: set[int] = set()
        for name in names:
            owner, _, last = name.replace("{i}", "0").rpartition(".")
            target = getattr(model.get_submodule(owner), last) if owner else getattr(model, last)
            wanted |= {id(p) for p in ([target] if isinstance(target, Tensor) else target.parameters())}
        assert covered == wanted, path
