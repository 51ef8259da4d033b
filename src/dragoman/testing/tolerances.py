"""The largest differences that tests allow."""

TOLERANCES = {
    "logits": 1e-4,  # from `transformers`, in float32
    "loss": 1e-5,  # from `transformers`, in float32
    "part": 1e-4,  # of one part of a model at its published width, from `transformers`
    "cached": 1e-5,  # of decoding with a cache, from decoding without
    "batch": 1e-5,  # of a clip in a padded batch, from the clip alone
}
