"""Random numbers as a function of (seed, utterance, sample, step).

There is no generator state, so the numbers of a row do not depend on the other rows of the batch, their order or when
they end; NumPy, PyTorch and JAX draw the same ones. The idea is that of counter-based generators (Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011); the mixing function is the 32-bit integer hash with the
constants found by C. Wellons (https://nullprogram.com/blog/2018/07/31/). Not for cryptography.
"""

from collections.abc import Sequence

import numpy as np

from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array, Length, Ops

# As signed 32-bit integers: JAX has no wider ones by default, and PyTorch supports few operations on unsigned ones.
_GOLDEN = 0x9E3779B9 - (1 << 32)
_FIRST = 0x7FEB352D
_SECOND = 0x846CA68B - (1 << 32)


def utterance_keys(ops: Ops, seed: int | Sequence[int] | Array, prompt: Array) -> Array:
    """Return a key for each utterance, int32 `[batch]`, on the device of `prompt` `[batch, prompt_length]`.

    Args:
        ops: The array library.
        seed: A number for the batch, or one for each utterance, whose keys then depend on nothing else; or the two
            halves of a number for the batch, int32 `[2]`, where no value can be read.
        prompt: Gives the batch size and the device.

    Raises:
        GenerationError: If there are not as many seeds as utterances.
    """
    batch = prompt.shape[0]
    places = ops.xp.arange(batch, dtype=ops.xp.int32, device=ops.device(prompt))
    if isinstance(seed, int | np.integer):
        return fold(ops, _keys(ops, [int(seed)], prompt), places)
    if not isinstance(seed, Sequence):
        return fold(ops, _mix(seed[:1] ^ seed[1:]), places)
    if len(seed) != batch:
        raise GenerationError(
            f"`seed` must be a number, or one for each of the {batch} utterances, but has {len(seed)}."
        )
    return fold(ops, _keys(ops, [int(one) for one in seed], prompt), 0)


def sample_keys(ops: Ops, keys: Array, samples: int) -> Array:
    """Return a key for each sample of each utterance: int32 `[batch]` -> `[batch * samples]`."""
    places = ops.xp.arange(samples, dtype=keys.dtype, device=ops.device(keys))
    return ops.xp.reshape(fold(ops, keys[:, None], places[None, :]), (-1,))


def fold(ops: Ops, keys: Array, number: Length | Array) -> Array:
    """Derive new keys from `keys` and `number`, a count or an int32 array that broadcasts with them."""
    number = ops.xp.asarray(number, dtype=ops.xp.int32, device=ops.device(keys))
    if number.ndim == 0:
        number = ops.xp.reshape(number, (1,))  # NumPy warns when a scalar overflows, which is intended here
    return _mix(keys ^ _mix(number * _GOLDEN + _FIRST))


def uniform(ops: Ops, keys: Array) -> Array:
    """Return one float32 number in [0, 1) per key, a multiple of 2^-24."""
    return ops.xp.astype(_shift(keys, 8), ops.xp.float32) * 2.0**-24


def gumbel(ops: Ops, keys: Array, size: int) -> Array:
    """Return float32 numbers `[keys, size]` of the standard Gumbel distribution.

    The k largest of `log_probs + gumbel` are k draws without replacement from `exp(log_probs)`, in the order drawn
    (Kool et al. 2019, https://arxiv.org/abs/1903.06059).
    """
    xp = ops.xp
    places = xp.arange(size, dtype=xp.int32, device=ops.device(keys))
    bits = _shift(fold(ops, keys[:, None], places[None, :]), 1)
    # 31 bits, so that small numbers, which become large Gumbel ones, are finely spaced; never exactly 0 or 1.
    small = xp.clip((xp.astype(bits, xp.float32) + 0.5) * 2.0**-31, 2.0**-32, 1.0 - 2.0**-24)
    return -xp.log(-xp.log1p(-small))


def _keys(ops: Ops, seeds: Sequence[int], like: Array) -> Array:
    """Return keys int32 `[seeds]` for integers of up to 64 bits."""
    wrapped = [(seed ^ (seed >> 32)) & 0xFFFFFFFF for seed in seeds]
    signed = [seed - (1 << 32) if seed >= 1 << 31 else seed for seed in wrapped]
    return _mix(ops.xp.asarray(signed, dtype=ops.xp.int32, device=ops.device(like)))


def _shift(x: Array, by: int) -> Array:
    """Shift right without copying the sign bit."""
    return (x >> by) & ((1 << (32 - by)) - 1)


def _mix(x: Array) -> Array:
    x = (x ^ _shift(x, 16)) * _FIRST
    x = (x ^ _shift(x, 15)) * _SECOND
    return x ^ _shift(x, 16)
