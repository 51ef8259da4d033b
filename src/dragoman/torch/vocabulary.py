"""Another embedding, another head or another number of tokens for a text decoder that exists already."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from dragoman.errors import ConfigError
from dragoman.spec import TextDecoderSpec
from dragoman.spec.checks import check_sizes
from dragoman.torch.net.layers import Linear
from dragoman.torch.net.text_embedding import Head, TextEmbedding


class VocabularyMethods:
    """Methods of a text decoder that change the tables over its vocabulary."""

    config: Any
    spec: TextDecoderSpec
    embed: TextEmbedding
    head: Head
    resized: bool

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the token embedding by one of the same size; a tied head uses it too.

        Raises:
            ConfigError: If it is no embedding, or of another size; see `resize_token_embeddings`.
        """
        own = self.embed.tokens.weight
        if not isinstance(value, nn.Embedding) or value.weight.shape != own.shape:
            raise ConfigError(
                f"The token embedding must be an nn.Embedding of the shape {list(own.shape)}, but is {value}. "
                "model.resize_token_embeddings changes the number of tokens."
            )
        self.embed.tokens = value  # type: ignore[assignment]
        self.resized = True

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the weight of the head, and its bias where it has one; the head is then no longer tied.

        Args:
            value: A linear layer from the head's width to the vocabulary. Its parameters become those of the head.

        Raises:
            ConfigError: If it is no linear layer of these sizes, or has a bias that checkpoints of the family lack.
        """
        shape = tuple(self.embed.tokens.weight.shape)
        if not isinstance(value, nn.Linear) or tuple(value.weight.shape) != shape or type(value).forward not in _PLAIN:
            raise ConfigError(
                f"The head must be replaced by an nn.Linear({shape[1]}, {shape[0]}), but by {value!r:.100} it cannot "
                "be. model.resize_token_embeddings changes the number of tokens; other layers belong into a subclass "
                "of the decoder whose `forward` changes the logits."
            )
        if value.bias is not None and self.head.bias is None:
            raise ConfigError(
                f"The head of a {self.config.model_type} decoder has no bias, in its checkpoints either, but the given "
                "layer has one. Pass bias=False."
            )
        self._untie()
        self.head.weight = cast(nn.Parameter, value.weight)
        bias: Any = value.bias
        if bias is None and self.head.bias is not None:  # zeros, as if there were none
            bias = nn.Parameter(torch.zeros_like(self.head.bias), requires_grad=False)
        self.head.bias = bias

    def _untie(self) -> None:
        """Give the configuration an untied head."""
        if not self.head.tied:
            return
        self.config.set_quietly(tie_word_embeddings=False)
        self.spec = self.config.text_spec()
        if self.spec.head.tied:
            self.config.set_quietly(tie_word_embeddings=True)
            self.spec = self.config.text_spec()
            raise ConfigError(f"The head of this {self.config.model_type} decoder is always tied to its embedding.")
        self.head.scale = self.spec.head.scale

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Change the size of the vocabulary: embedding, head and configuration.

        Embeddings of new tokens are initialised close to the mean of the old ones; removed tokens are the last ones.

        Args:
            new_num_tokens: The new size; by default the present one.
            pad_to_multiple_of: Round the size up to a multiple.
            mean_resizing: Must be `True`.

        Returns:
            The token embedding.

        Raises:
            ConfigError: If a size is below 1, or `mean_resizing` is `False`.
        """
        if not mean_resizing:
            raise ConfigError(
                "New embeddings are always close to the mean of the old ones; leave out mean_resizing=False."
            )
        if pad_to_multiple_of is not None:
            check_sizes("The vocabulary", {"pad_to_multiple_of": pad_to_multiple_of})
            wanted = self.spec.vocab_size if new_num_tokens is None else new_num_tokens
            new_num_tokens = -(-wanted // pad_to_multiple_of) * pad_to_multiple_of
        if new_num_tokens is not None and new_num_tokens != self.spec.vocab_size:
            check_sizes("The vocabulary", {"new_num_tokens": new_num_tokens})
            for module, name in (self.embed.tokens, "weight"), (self.head, "weight"), (self.head, "bias"):
                old = module._parameters.get(name)  # `None` for a tied head, which follows the embedding
                if old is not None:
                    setattr(module, name, _resized(old, new_num_tokens))
            table = self.embed.tokens
            table.num_embeddings = new_num_tokens
            if table.padding_idx is not None and table.padding_idx >= new_num_tokens:
                table.padding_idx = None
            self.config.set_quietly(vocab_size=new_num_tokens)
            self.spec = self.config.text_spec()
            self.resized = True
        return self.embed.tokens


_PLAIN = (nn.Linear.forward, Linear.forward)


def _resized(old: Tensor, rows: int) -> nn.Parameter:
    """Return a parameter with the first `rows` rows of `old`; new rows are drawn close to the mean of the old ones.

    A new row is the mean plus a little of the old rows' spread, so that new tokens are plausible but not equal.

    Reference: J. Hewitt, Initializing New Word Embeddings for Pretrained Language Models, 2021.
    """
    kept = old.detach()[:rows]
    more = rows - kept.shape[0]
    if more > 0:
        exact = old.detach().double()
        mean = exact.mean(0, keepdim=True)
        # random mixtures of the centred rows have the rows' own covariance
        mixtures = torch.randn(more, len(exact), dtype=torch.float64, device=old.device) @ (exact - mean)
        new = mean + 1e-5 * mixtures / len(exact) ** 0.5
        kept = torch.cat([kept, new.to(old.dtype)])
    return nn.Parameter(kept.clone(), requires_grad=old.requires_grad)
