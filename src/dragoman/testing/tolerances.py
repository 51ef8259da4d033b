"""The largest differences that tests allow, in one table."""

__all__ = ["TOLERANCES"]

TOLERANCES = {
    "logits": 1e-4,  # against the reference, float32
    "loss": 1e-5,  # against the reference, float32
    "part": 1e-4,  # one part of a model at its published width, against the reference
    "cached": 1e-5,  # decoding with a cache, against decoding everything anew
    "batch": 1e-5,  # a clip in a padded batch, against the clip alone
}
