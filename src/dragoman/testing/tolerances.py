"""The largest differences that tests allow."""

TOLERANCES = {
    "logits": 1e-4,  # from `transformers`, in float32
    "loss": 1e-5,  # from `transformers`, in float32
    "part": 1e-4,  # of one part of a model at its published width, from `transformers`
    "cached": 1e-5,  # of decoding with a cache, from decoding without
    "batch": 1e-5,  # of a clip in a padded batch, from the clip alone
    # norm of the differences as a share of the norm, from the same model in float32
    "bfloat16": 0.05,
    "int8": 0.08,
}
