"""Keywords of the loaders of Flax models in `transformers`: `_do_init`, `input_shape`, `seed`, `dtype`."""

from typing import Any

from dragoman.errors import ConfigError
from dragoman.jax.net.init import initialise
from dragoman.model.load import AnyModel


def check_init(do_init: bool) -> None:
    """Raise an error if a model without parameters is asked for."""
    if not do_init:
        raise ConfigError(
            "`_do_init` must be `True`: this model always holds its parameters. Take them from model.params, and pass "
            "others with `params=`."
        )


def loading_keywords(keywords: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """Return the keywords of a loader without those of Flax models; `dtype="auto"` is about the parameters.

    Raises:
        ConfigError: If `_do_init` is `False`.
    """
    check_init(keywords.pop("_do_init", True))
    keywords.pop("input_shape", None)  # no tensor depends on it
    return keywords | {"dtype": "auto"} if isinstance(dtype, str) and dtype == "auto" else keywords


def redrawn(model: AnyModel, seed: int | None) -> AnyModel:
    """Return a model whose tensors from no checkpoint are drawn again, from a seed if there is one."""
    if seed is None:
        return model
    for place, name in enumerate(("encoder", "decoder", "bridge")):
        new = [one.removeprefix(f"{name}.") for one in model.load_report.fresh if one.startswith(f"{name}.")]
        spec = model.encoder.spec if name == "encoder" else model.decoder.spec
        initialise(getattr(model, name), new, spec, model.dtype, seed + place)
    return model
