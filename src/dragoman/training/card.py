"""The card of a trained model: a README.md with its parts, data, figures and the command that made it."""

from collections.abc import Mapping
from typing import Any

import dragoman
from dragoman.training.config import Config


def model_card(config: Config, *, step: int, metrics: Mapping[str, float] | None, seconds: float, items: int) -> str:
    """Return the card in Markdown, with the front matter that the hub reads.

    Args:
        config: Of the run.
        step: Optimizer steps of the saved model.
        metrics: Of the validation set, if there is one.
        seconds: Seconds of audio that were trained on.
        items: Number of items in the training set.
    """
    model = config.model
    start = [name for name in (model.model_name_or_path, model.encoder, model.decoder) if name]
    bases = "".join(f"\n  - {name}" for name in start)
    front = f"---\nlibrary_name: dragoman\npipeline_tag: automatic-speech-recognition\nbase_model:{bases}\n---\n"
    parts = "\n".join(f"- {name}" for name in start)
    shown = _figures(metrics, config.evaluation.normalizer) if metrics else "There was no validation set.\n"
    return f"""{front}
# Speech to text, trained with dragoman {dragoman.__version__}

It began with:

{parts}

The licences of these checkpoints and of the data apply.

## Data

Training: {_training(config)}, {items} items. Validation: {_validation(config)}.
{seconds / 3600:.2f} hours of audio went through training, repetitions included.

## Figures

After {step} steps, greedy search unless `generation_num_beams` says otherwise.

{shown}
## Training

The command was `dragoman train` with this configuration (`training_config.json` beside the checkpoints holds it too):

```yaml
{_changed(config)}
```

## Use

```console
$ dragoman transcribe --model THIS_FOLDER speech.wav
```
"""


def _training(config: Config) -> str:
    paths = config.data.train if isinstance(config.data.train, list) else [config.data.train]
    return ", ".join(f"`{path}`" for path in paths)


def _validation(config: Config) -> str:
    if config.data.valid:
        return f"`{config.data.valid}`"
    share = config.data.valid_share
    return f"{share:.0%} of it, which share no {config.data.split_by}" if share else "none"


def _figures(metrics: Mapping[str, float], normalizer: str) -> str:
    names = {"loss": "loss per token", "wer": "word error rate", "cer": "character error rate"}
    rows = [
        f"| {names.get(name, name)} | {value:.4f} |" if name == "loss" else f"| {names.get(name, name)} | {value:.2%} |"
        for name, value in metrics.items()
    ]
    note = f"\nTexts are normalised by `{normalizer}` first.\n" if "wer" in metrics else ""
    return "\n".join(["| validation set | |", "|---|---|", *rows, note])


def _changed(config: Config) -> Any:
    """Return what differs from the defaults, as YAML."""
    lines = []
    default = Config().to_dict()
    for part, options in config.to_dict().items():
        different = {name: value for name, value in options.items() if value != default[part][name]}
        if different:
            lines.append(f"{part}:")
            lines += [f"  {name}: {value}" for name, value in different.items()]
    return "\n".join(lines)
