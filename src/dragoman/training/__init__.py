"""Training: from two checkpoints and a manifest to a model, by one configuration, without losing work.

`train(config)` is the whole job, and `dragoman train` its command. The loop knows no framework: a learner of `torch` or
`jax` takes the steps.
"""

from dragoman._lazy import lazy_names

__all__ = ["Config", "TrainResult", "average", "init", "parse_assignments", "read_config", "settings_of", "train"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Config": "dragoman.training.config",
        "TrainResult": "dragoman.training.run",
        "average": "dragoman.training.averaging",
        "init": "dragoman.training.start",
        "parse_assignments": "dragoman.training.reading",
        "read_config": "dragoman.training.reading",
        "settings_of": "dragoman.training.run",
        "train": "dragoman.training.run",
    },
)
