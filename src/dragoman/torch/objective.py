"""The loss of a batch in training: of the decoder, of CTC beside it, of a teacher, of alignment beforehand."""

from typing import Any

import torch
from torch import Tensor, nn

from dragoman.api.checks import IGNORED
from dragoman.api.outputs import EncoderOutput
from dragoman.checkpoint.ctc_head import CtcHead
from dragoman.model.learning import LearnerOptions
from dragoman.torch.aligning import BridgeAlignment
from dragoman.torch.distilling import divergence
from dragoman.torch.model import SpeechEncoderDecoderModel


class Objective(nn.Module):
    """A model and what is trained with it, as a function from batches to losses.

    Args:
        model: The model.
        options: What the loss consists of.

    Attributes:
        touches_all: Whether all trained parameters get gradients, those of skipped layers zeros.
    """

    def __init__(self, model: SpeechEncoderDecoderModel, options: LearnerOptions) -> None:
        super().__init__()
        self.model, self._options = model, options
        self.touches_all = False
        ends = model.config.special_id("eos_token_id")
        self._ends = torch.tensor(ends if isinstance(ends, list) else [ends], device=model.device)
        self.beside = nn.ModuleDict({"ctc_head": self._ctc_head()} if options.ctc_weight > 0 else {})
        self._alignment = BridgeAlignment(model, options.alignment.tokens) if options.alignment.steps else None

    def _ctc_head(self) -> nn.Linear:
        model = self.model
        classes = model.decoder.spec.vocab_size + 1  # the last is the blank
        layer = nn.Linear(model.encoder.spec.output_width, classes)
        if model.ctc_scoring_head is not None:
            layer.load_state_dict(
                {name: torch.from_numpy(array) for name, array in model.ctc_scoring_head._asdict().items()}
            )
        return layer.to(model.device)

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained and saved, by our names."""
        return {**dict(nn.Module.named_parameters(self.model)), **dict(self.beside.named_parameters())}

    def set_ctc_head(self) -> None:
        """Give the model the head of CTC as it is now, to search with and to be saved."""
        if "ctc_head" in self.beside:
            parameters = self.beside["ctc_head"].parameters()
            self.model.ctc_scoring_head = CtcHead(*(one.detach().clone().cpu().numpy() for one in parameters))

    def forward(self, inputs: dict[str, Any], tokens: float, aligning: bool) -> Tensor:
        """Return the loss of a batch.

        Args:
            inputs: Arguments of the model, labels among them.
            tokens: Labels of all batches of the step, by which the summed loss is divided.
            aligning: Whether the step aligns the bridge.
        """
        loss = self._aligned(inputs, tokens) if aligning else self._loss(inputs, tokens)
        if self.touches_all:
            loss = loss + 0.0 * sum(one.sum() for one in self.own_parameters().values() if one.requires_grad)
        return loss

    def _aligned(self, inputs: dict[str, Any], tokens: float) -> Tensor:
        """Return the loss of alignment, whose gradients reach the bridge alone."""
        assert self._alignment is not None
        labels = inputs.pop("labels")
        with torch.no_grad():
            encoded = self._encoded(inputs)
        return self._alignment(encoded, labels) / tokens

    def _encoded(self, inputs: dict[str, Any]) -> EncoderOutput:
        """Return the states of a batch, which has no labels any more."""
        known: EncoderOutput | None = inputs.get("encoder_outputs")
        if known is not None:
            return known
        mask = inputs.pop("attention_mask", None)
        return self.model.encode(next(iter(inputs.values())), mask)

    def _loss(self, inputs: dict[str, Any], tokens: float) -> Tensor:
        weight = self._options.ctc_weight
        if "ctc_head" not in self.beside:
            return self._decoder_loss(inputs, inputs, tokens)
        audio = {name: inputs[name] for name in inputs if name != "labels"}
        encoded = self._encoded(dict(audio))
        labels = inputs["labels"]
        loss = self._decoder_loss({"encoder_outputs": encoded, "labels": labels}, inputs, tokens)
        states = encoded.last_hidden_state
        frames = torch.full((len(states),), states.shape[1]) if encoded.lengths is None else encoded.lengths
        scores = self.beside["ctc_head"](states).float().log_softmax(-1).transpose(0, 1)
        spoken = (labels != IGNORED) & ~torch.isin(labels, self._ends)
        ctc = nn.functional.ctc_loss(
            scores, labels[spoken], frames.cpu(), spoken.sum(1).cpu(), blank=scores.shape[-1] - 1,
            reduction="sum", zero_infinity=True,
        )  # fmt: skip
        return (1 - weight) * loss + weight * ctc / tokens

    def _decoder_loss(self, inputs: dict[str, Any], given: dict[str, Any], tokens: float) -> Tensor:
        """Return the loss of the labels, and of what a teacher predicts for the audio and labels in `given`."""
        output = self.model(**inputs, num_items_in_batch=tokens, smoothing=self._options.label_smoothing)
        loss: Tensor = output.loss
        distillation = self._options.distillation
        if distillation is None:
            return loss
        with torch.no_grad():
            theirs = distillation.teacher(**given).logits
        far = divergence(output.logits, theirs, given["labels"], distillation.temperature)
        return (1 - distillation.weight) * loss + distillation.weight * far / tokens
