"""What happens in a step besides the usual: NaN, memory, groups, freezing, averages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dragoman import OutOfMemoryError, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.model.learning import Distillation, Freezing, LearnerOptions, Rates
from dragoman.testing import tiny_config
from dragoman.torch.learner import Learner
from dragoman.torch.parameters import groups
from dragoman.torch.processes import Processes

RATES = Rates(new=1e-2, encoder=1e-3, decoder=1e-4, layer_decay=0.5, weight_decay=0.1)


@pytest.fixture(autouse=True)
def _gradients() -> Iterator[None]:
    with torch.enable_grad():
        yield


def build() -> SpeechEncoderDecoderModel:
    torch.manual_seed(0)
    ids = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    names = ("layerdrop", "hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout")
    encoder = tiny_config("wav2vec2", apply_spec_augment=False, **dict.fromkeys(names, 0.0))
    return SpeechEncoderDecoderModel(
        config=SpeechEncoderDecoderConfig(encoder=encoder, decoder=tiny_config("bert", **still), **ids)
    )


def batch(rows: int = 4, scale: float = 1.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(rows)
    waves = (scale * random.standard_normal((rows, 800))).astype(np.float32)
    return {"input_values": waves, "labels": random.integers(4, 99, (rows, 5))}


def learner(**options: Any) -> Learner:
    return Learner(build(), LearnerOptions(rates=RATES, **options), Processes(use_cpu=True))


def weights(one: Learner) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in one.model.named_parameters()}


def test_a_step_with_nan_changes_nothing() -> None:
    one = learner()
    before = weights(one)
    with torch.no_grad():
        one.model.bridge.proj.weight.register_hook(lambda gradient: gradient * float("nan"))
    result = one.step([batch()], 0, 1.0)
    assert result.skipped
    assert np.isnan(result.grad_norm)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(one).items())


def test_out_of_memory_splits_the_batch_and_changes_no_gradient(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    whole, small = learner(), learner()
    forward, sizes = SpeechEncoderDecoderModel.forward, []

    def limited(self: Any, *arguments: Any, **named: Any) -> Any:
        rows = len(named["labels"])
        if self is small.model:
            sizes.append(rows)
            if rows > 2:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        return forward(self, *arguments, **named)

    monkeypatch.setattr(SpeechEncoderDecoderModel, "forward", limited)
    expected = whole.step([batch(3), batch(7)], 0, 1.0)
    found = small.step([batch(3), batch(7)], 0, 1.0)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.grad_norm == pytest.approx(expected.grad_norm, rel=1e-5)
    assert found.tokens == expected.tokens == 50
    assert "Out of memory: batches of this size are split" in caplog.text
    sizes.clear()
    small.step([batch(7)], 1, 1.0)
    assert max(sizes) <= 2  # it has learned what fits


def test_a_clip_that_does_not_fit_alone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, *_: Any, **__: Any) -> Any:
        raise RuntimeError("can't allocate memory")

    one = learner()
    monkeypatch.setattr(SpeechEncoderDecoderModel, "forward", full)
    with pytest.raises(OutOfMemoryError, match="One clip of 800 samples"):
        one.step([batch(4)], 0, 1.0)


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, *_: Any, **__: Any) -> Any:
        raise RuntimeError("size mismatch")

    one = learner()
    monkeypatch.setattr(SpeechEncoderDecoderModel, "forward", broken)
    with pytest.raises(RuntimeError, match="size mismatch"):
        one.step([batch(4)], 0, 1.0)


def test_every_parameter_has_the_rate_of_its_part_and_layer() -> None:
    model = build()
    found = {name: group for group in groups(model, RATES) for name in group["names"]}
    assert found.keys() == {name for name, _ in model.named_parameters()}

    def facts(name: str) -> tuple[float, float]:
        return found[name]["lr"], found[name]["weight_decay"]

    assert facts("bridge.proj.weight") == (1e-2, 0.1)
    assert facts("bridge.proj.bias") == (1e-2, 0.0)
    assert facts("decoder.stack.layers.0.cross_attn.q_proj.weight") == (1e-2, 0.1)
    assert facts("decoder.stack.layers.1.self_attn.q_proj.weight") == (1e-4, 0.1)
    assert facts("decoder.stack.layers.0.self_attn.q_proj.weight") == (0.5e-4, 0.1)
    assert facts("encoder.stack.layers.1.self_attn.q_proj.weight") == (1e-3, 0.1)
    assert facts("encoder.stack.layers.0.self_attn_norm.weight") == (0.5e-3, 0.0)
    assert facts("decoder.embed.tokens.weight") == (0.25e-4, 0.1)
    assert facts("encoder.frontend.proj.weight") == (0.25e-3, 0.1)


def test_frozen_parts_stay_until_their_step() -> None:
    one = learner(freezing=Freezing(feature_encoder=True, encoder=True, decoder=True, encoder_until=2))
    for number, moving in enumerate([("bridge", "cross"), ("bridge", "cross"), ("bridge", "cross", "encoder")]):
        before = weights(one)
        one.step([batch()], number, 1.0)
        changed = {name for name, tensor in weights(one).items() if not torch.equal(tensor, before[name])}
        new = {name for name in changed if name.startswith("bridge") or "cross_attn" in name}
        own = {name for name in changed if name.startswith("encoder.")}
        assert new
        assert changed == new | own
        assert bool(own) == ("encoder" in moving)
        assert not any(name.startswith("encoder.frontend.convs") for name in changed)


def test_averages_are_what_is_evaluated() -> None:
    one, plain = learner(ema_decay=0.75), learner()
    first = weights(one)
    mean = {name: tensor.clone() for name, tensor in first.items()}
    for number in range(3):
        one.step([batch()], number, 1.0)
        plain.step([batch()], number, 1.0)
        for name, tensor in weights(one).items():
            mean[name].lerp_(tensor, 0.25)
    after = weights(one)
    with one.evaluating():
        for name, tensor in weights(one).items():
            torch.testing.assert_close(tensor, mean[name])
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, after[name])
        assert torch.equal(tensor, weights(plain)[name])


IN_TWO = """
import pathlib, runpy
import torch
here = runpy.run_path({file!r})
one = here["learner"](fsdp={fsdp}, ctc_weight=0.2)
rank, batch = one.processes.rank, here["batch"]
counts = [[[batch(2)], [batch(3)]], [[batch(2)], []]]  # the other process has nothing left
for number, parts in enumerate(counts):
    result = one.step(parts[rank], number, 1.0)
with one.evaluating():
    weights = here["weights"](one)
if one.sharded:
    folder = pathlib.Path({folder!r}) / "shards"
    one.write_shards(folder)
    after = one.step([batch(2), batch(3)][rank:], 2, 0.5)
    again = here["learner"](fsdp=True, ctc_weight=0.2)
    again.restore_shards(folder)
    assert again.step([batch(2), batch(3)][rank:], 2, 0.5) == after
    for name, parameter in one.model.named_parameters():
        assert parameter.to_local().equal(again.model.get_parameter(name).to_local()), name
    assert max(p.to_local().numel() for p in one.model.parameters()) < max(map(torch.numel, weights.values()))
if rank == 0:
    torch.save((weights, result.loss, result.tokens), {folder!r} + "/weights.pt")
one.processes.close()
"""


@pytest.mark.parametrize("fsdp", [False, True])
def test_two_processes_take_the_step_of_one(tmp_path: Path, start_all: Any, fsdp: bool) -> None:
    """Each with a batch of another size, and then one without any; what is shared out is restored exactly."""
    log = tmp_path / "log"
    for process in start_all(IN_TWO.format(file=__file__, folder=str(tmp_path), fsdp=fsdp), log, 2):
        process.join()
        assert process.exitcode == 0, log.read_text()
    found, loss, tokens = torch.load(tmp_path / "weights.pt", weights_only=True)
    one = learner(ctc_weight=0.2)
    one.step([batch(2), batch(3)], 0, 1.0)
    expected = one.step([batch(2)], 1, 1.0)
    assert loss == pytest.approx(expected.loss, rel=1e-5)
    assert tokens == expected.tokens == 10
    for name, tensor in weights(one).items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5, msg=name)


def test_ctc_is_the_loss_of_its_definition() -> None:
    """With a weight of nearly 1, the loss is that of CTC over the encoder's frames."""
    one = learner(ctc_weight=0.999)
    given = batch(2)
    one.model.eval()
    inputs = {name: torch.from_numpy(array) for name, array in given.items()}
    states = one.model.encoder(inputs["input_values"]).last_hidden_state
    scores = one._objective.beside["ctc_head"](states).log_softmax(-1).transpose(0, 1)
    lengths = torch.full((2,), scores.shape[0]), torch.full((2,), 5)
    ctc = torch.nn.functional.ctc_loss(scores, inputs["labels"], *lengths, blank=99, reduction="sum") / 10
    plain = one.model(**inputs).loss
    assert one.step([given], 0, 1.0).loss == pytest.approx((0.001 * plain + 0.999 * ctc).item(), rel=1e-5)


def test_a_teacher_is_learned_beside_the_labels() -> None:
    """The loss and its gradients are those of the formula, whichever way it is written."""
    torch.manual_seed(3)
    teacher = build().eval().requires_grad_(False)
    with torch.no_grad():
        teacher.decoder.embed.tokens.weight.mul_(30)
    one = learner(distillation=Distillation(teacher=teacher, weight=0.25, temperature=2.0), max_grad_norm=0.0)
    plain = build()
    part = {name: torch.from_numpy(array) for name, array in batch().items()}
    part["labels"][0, 3:] = -100
    logits = plain(**part).logits
    kept = part["labels"] != -100
    own = torch.nn.functional.cross_entropy(logits[kept], part["labels"][kept])
    mixed = torch.distributions.Categorical(logits=teacher(**part).logits[kept] / 2)
    far = torch.distributions.kl_divergence(mixed, torch.distributions.Categorical(logits=logits[kept] / 2)).mean()
    expected = 0.75 * own + 0.25 * 4 * far
    expected.backward()
    norm = torch.stack([p.grad.norm() for p in plain.parameters() if p.grad is not None]).norm()
    result = one.step([{name: tensor.numpy() for name, tensor in part.items()}], 0, 1.0)
    assert far.item() > 0.05
    assert result.loss == pytest.approx(expected.item(), rel=1e-5)
    assert result.grad_norm == pytest.approx(float(norm), rel=1e-4)


def test_float16_takes_the_steps_of_float32_and_halves_its_scale_after_infinite_gradients() -> None:
    half, single = learner(fp16=True), learner()
    start = weights(half)
    for number in range(2):
        found, expected = half.step([batch()], number, 1.0), single.step([batch()], number, 1.0)
        assert found.loss == pytest.approx(expected.loss, rel=5e-3)
        assert found.grad_norm == pytest.approx(expected.grad_norm, rel=2e-2)
    moved = {name: tensor - start[name] for name, tensor in weights(half).items()}
    assert max(float(tensor.abs().max()) for tensor in moved.values()) > 1e-3
    scale = half._scaler.get_scale()
    before = weights(half)
    with torch.no_grad():
        hook = half.model.bridge.proj.weight.register_hook(lambda gradient: gradient * float("inf"))
    assert half.step([batch()], 2, 1.0).skipped
    hook.remove()
    assert half._scaler.get_scale() == scale / 2
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(half).items())
