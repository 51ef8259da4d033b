"""CTC that aligns a bridge before the decoder is trained.

Each position that the bridge gives is scored against the token embeddings of the text model, as a decoder's head would
score it, so that speech comes to look like the tokens that were spoken. One step costs a fraction of a step through the
text model. Reference: A. Graves et al., Connectionist temporal classification, https://doi.org/10.1145/1143844.1143891.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dragoman.api.checks import IGNORED
from dragoman.api.outputs import EncoderOutput
from dragoman.errors import ConfigError
from dragoman.torch.model import SpeechEncoderDecoderModel
from dragoman.torch.net.bridge import Prefix
from dragoman.torch.net.layers import frame_mask


class BridgeAlignment:
    """The CTC loss of a model's bridge.

    The blank is the token after the speech, the last of `fusion_prompt`, or else the padding token: something that the
    text model knows and no transcript contains.

    Args:
        model: The model.
        tokens: All tokens of the training texts; others are not scored.

    Raises:
        ConfigError: If the bridge has nothing to train, or gives no embeddings.
    """

    def __init__(self, model: SpeechEncoderDecoderModel, tokens: Sequence[int]) -> None:
        self._bridge, self._decoder = model.bridge, model.decoder
        self._check(model)
        after = self._bridge.prompt[1] if isinstance(self._bridge, Prefix) else ()
        ends = model.config.special_id("eos_token_id")
        ends = set(ends if isinstance(ends, list) else [ends])
        blank = after[-1] if after else int(model.config.special_id("pad_token_id"))
        known = [blank, *sorted(set(tokens) - {blank, *ends})]
        self.tokens = torch.tensor(known, device=model.device)
        self._place = torch.full((model.decoder.spec.vocab_size,), -1, device=model.device)
        self._place[self.tokens] = torch.arange(len(known), device=model.device)

    def _check(self, model: SpeechEncoderDecoderModel) -> None:
        if not list(self._bridge.parameters()):
            raise ConfigError(
                "`training.align_steps` trains the projection between encoder and decoder, but these have the same "
                "width and none. Set `model.fusion: prefix`, or leave out `training.align_steps`."
            )
        width, wanted = model.decoder.spec.memory_width, model.decoder.spec.token_width
        if not isinstance(self._bridge, Prefix) and width != wanted:
            raise ConfigError(
                f"`training.align_steps` compares speech, of width {width}, with token embeddings, of width {wanted}. "
                "Leave it out, or set `model.fusion: prefix`."
            )

    def scores(self, encoded: EncoderOutput) -> tuple[Tensor, Tensor]:
        """Return log-probabilities of `tokens`, `[batch, positions, known]`, and the valid positions of each row."""
        states = encoded.last_hidden_state
        mask = None if encoded.lengths is None else frame_mask(encoded.lengths, states.shape[1])
        if isinstance(self._bridge, Prefix):
            speech, valid = self._bridge.project(states, mask)
        else:
            speech = self._bridge(states, mask, self._decoder.embed).states
            valid = speech.new_ones(speech.shape[:2], dtype=torch.bool) if mask is None else mask
        table = self._decoder.get_input_embeddings().weight[self.tokens].detach()
        return (speech.float() @ table.float().T).log_softmax(-1), valid.sum(1)

    def __call__(self, encoded: EncoderOutput, labels: Tensor) -> Tensor:
        """Return the summed loss of a batch; tokens that were never in a training text, and ends, do not count."""
        scores, lengths = self.scores(encoded)
        places = self._place[labels.clamp(min=0)].masked_fill(labels == IGNORED, -1)
        kept = places > 0
        loss: Tensor = nn.functional.ctc_loss(
            scores.transpose(0, 1), places[kept], lengths.cpu(), kept.sum(1).cpu(), reduction="sum", zero_infinity=True
        )
        return loss
