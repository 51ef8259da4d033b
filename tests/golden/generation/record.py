"""Record the outputs of `transformers` 4.55.4 with search strategies that later releases removed.

    pip install transformers==4.55.4 torch numpy    # in an environment of its own
    python tests/golden/generation/record.py

writes `strategies.json` beside this file. The model is a tiny BART whose weights follow from their names
(`weights_for`), so that `tests/parity/test_search.py` builds the same one.
"""

import json
import random
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
import transformers
from transformers import BartConfig, BartForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput

VOCAB, START, EOS, PAD = 23, 2, 2, 1


def weights_for(name: str, shape: Iterable[int]) -> np.ndarray:
    """Weights that depend only on the name of the tensor; norms near one, biases near zero."""
    values = np.random.default_rng(crc32(name.encode())).normal(0, 0.7, tuple(shape)).astype(np.float32)
    if "norm" in name:
        return values * 0.1 + (1.0 if name.endswith("weight") else 0.0)
    return values * (0.1 if name.endswith("bias") else 1.0)


def tiny_bart() -> BartForConditionalGeneration:
    config = BartConfig(
        vocab_size=VOCAB, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, dropout=0.0,
        attn_implementation="eager", forced_eos_token_id=None,
    )  # fmt: skip
    model = BartForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights_for(name, parameter.shape)))
        model.final_logits_bias[0, EOS] = 2.0
    return model


def memory_for(batch: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (batch, 5, 16)).astype(np.float32))


def options_of(rng: random.Random, strategy: str) -> dict[str, Any]:
    options: dict[str, Any] = {"max_new_tokens": rng.randrange(4, 12)}
    if strategy == "contrastive":
        options |= {"penalty_alpha": rng.choice([0.2, 0.5, 0.8]), "top_k": rng.choice([2, 4, 6])}
    elif strategy == "diverse":
        groups, beams = rng.choice([2, 3]), rng.choice([1, 2])
        options |= {
            "num_beams": groups * beams, "num_beam_groups": groups, "num_return_sequences": groups * beams,
            "diversity_penalty": rng.choice([0.3, 1.0, 5.0]), "length_penalty": rng.choice([1.0, 0.0, 2.0]),
            "max_new_tokens": 25,
            # The heuristic of `False` differs between this release and the later one, which dragoman follows.
            "early_stopping": True,
        }  # fmt: skip
    else:
        word = lambda n: [rng.randrange(3, VOCAB) for _ in range(n)]  # noqa: E731
        words: list[Any] = [word(rng.choice([1, 2])) for _ in range(rng.choice([1, 2]))]
        if rng.random() < 0.3:
            words.append([word(1), word(2)])
        options |= {"num_beams": rng.choice([4, 6]), "force_words_ids": words, "max_new_tokens": 10}
    return options


def main() -> None:
    assert transformers.__version__ == "4.55.4", transformers.__version__
    warnings.simplefilter("ignore")
    model, cases = tiny_bart(), []
    for strategy in ("contrastive", "diverse", "constrained"):
        for seed in range(60 if strategy == "diverse" else 25):
            rng = random.Random(f"{strategy} {seed}")
            batch, options = rng.randrange(1, 4), options_of(rng, strategy)
            with torch.no_grad():
                output = model.generate(
                    encoder_outputs=BaseModelOutput(last_hidden_state=memory_for(batch, seed)),
                    decoder_input_ids=torch.full((batch, 1), START), pad_token_id=PAD, eos_token_id=EOS,
                    return_dict_in_generate=True, output_scores=True, **options,
                )  # fmt: skip
            if strategy == "diverse" and output.sequences.shape[1] == 26:
                continue  # the releases also differ at the maximum length
            scores = output.get("sequences_scores")
            cases.append({
                "strategy": strategy, "seed": seed, "batch": batch, "options": options,
                "sequences": output.sequences.tolist(),
                "scores": None if scores is None else [round(score, 6) for score in scores.tolist()],
            })  # fmt: skip
    lines = ",\n".join(json.dumps(case) for case in cases)
    Path(__file__).with_name("strategies.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
