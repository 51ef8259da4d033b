"""The number types that a model may compute in, by the names of CTranslate2."""

from typing import Literal, TypeAlias, get_args

from dragoman.errors import ConfigError, did_you_mean

ComputeType: TypeAlias = Literal["default", "auto", "float32", "bfloat16", "float16", "int8", "int8_float32"]
"""`default` is float32; `auto` is bfloat16 where the hardware multiplies it faster, else float32. `int8` and
`int8_float32` are the same: linear layers in 8 bits, the rest in float32."""

NumberType: TypeAlias = Literal["float32", "bfloat16", "float16", "int8"]


def number_type(wanted: str, *, on_cpu: bool, fast_bfloat16: bool, has_int8: bool) -> NumberType:
    """Return the number type that a compute type stands for.

    Args:
        wanted: The compute type.
        on_cpu: Whether the model runs on a CPU, which is slow in float16.
        fast_bfloat16: Whether the hardware is faster in bfloat16 than in float32.
        has_int8: Whether there are products of 8-bit matrices.

    Raises:
        ConfigError: If there is no such type, or the device does not compute in it.
    """
    known = get_args(ComputeType)
    if wanted not in known:
        raise ConfigError(
            f"`compute_type` must be {', '.join(known[:-1])} or {known[-1]}, but is {wanted!r}."
            f"{did_you_mean(wanted, known)}"
        )
    if wanted in ("default", "auto", "float32"):
        return "bfloat16" if wanted == "auto" and fast_bfloat16 else "float32"
    if wanted == "bfloat16":
        return "bfloat16"
    if wanted == "float16":
        if on_cpu:
            raise ConfigError(
                "`compute_type` float16 needs a GPU: a CPU is many times slower in it than in float32. Use bfloat16 or "
                "float32."
            )
        return "float16"
    if not has_int8:
        raise ConfigError(
            f"`compute_type` {wanted} needs PyTorch (`backend` torch) on an x86 CPU. Use bfloat16 or float32."
        )
    return "int8"
