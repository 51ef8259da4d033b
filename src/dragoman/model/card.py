"""The README.md of a model on the hub: what its configuration tells. `dragoman.publishing` uploads it."""

from typing import Any

from dragoman.model.save import unloadable
from dragoman.publishing import language_codes, model_card

_PROGRAM = """from dragoman import AutoProcessor, {name}

model = {name}.from_pretrained("{repo}")
processor = AutoProcessor.from_pretrained("{repo}")
inputs = processor(waveform, sampling_rate=16_000, return_tensors="{kind}")
print(processor.batch_decode(model.generate(**inputs), skip_special_tokens=True))"""


def card_of(model: Any, repo_id: str) -> str:
    """Return the README.md of a model for a repository on the hub."""
    roles = {"encoder": model.config.encoder, "decoder": model.config.decoder}
    parts = {role: (config.model_type, config.name_or_path) for role, config in roles.items()}
    spoken = [getattr(model.generation_config, "language", None)]
    spoken += [getattr(part, "tgt_lang", None) for part in model.processing]
    why = unloadable(model.config)
    note = f"`transformers` cannot load it: {why}." if why else "`transformers` loads it, too."
    use = _PROGRAM.format(name=type(model).__name__, repo=repo_id, kind="jax" if model.backend == "jax" else "pt")
    count = model.num_parameters()
    return model_card(repo_id, parts, parameters=count, languages=language_codes(spoken), note=note, use=use)
