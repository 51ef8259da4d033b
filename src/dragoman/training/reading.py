"""Configurations as users write them: YAML files and assignments of the command line."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dragoman._lazy import require
from dragoman.errors import ConfigError
from dragoman.files import as_path, read_bytes
from dragoman.training.config import Config

_MAX_BYTES = 2**20


def read_config(path: str | Path | Mapping[str, Any] | None, assignments: Iterable[str] = ()) -> Config:
    """Return the configuration of a YAML file, changed by assignments.

    Args:
        path: The file, or what one holds; `None` starts from the defaults.
        assignments: Such as `training.max_steps=100`.

    Raises:
        ModelNotFoundError: If there is no such file.
        ConfigError: If it is no YAML, or a name or value is wrong; unknown names come with the nearest that exists.
    """
    if path is None or isinstance(path, Mapping):
        values = {part: dict(options or {}) for part, options in (path or {}).items()}
    else:
        values = _read_yaml(as_path(path, "The configuration"))
    for name, value in parse_assignments(assignments).items():
        part, dot, rest = name.partition(".")
        if not dot or not rest:
            raise ConfigError(f"`--set {name}=…` must name a part and an option, as in training.max_steps=100.")
        held: Any = values.get(part)
        if not isinstance(held, dict):
            held = values[part] = {}
        while "." in rest:  # an entry of an option that is a mapping: data.columns.text=sentence
            first, _, rest = rest.partition(".")
            held = held.setdefault(first, {})
            if not isinstance(held, dict):
                raise ConfigError(f"`--set {name}=…`: `{first}` is no mapping.")
        held[rest] = value
    return Config.from_dict(values)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Return the values of assignments such as `encoder_layerdrop=0.0`, read as YAML.

    Raises:
        ConfigError: If one has no `=` or no name, or its value is no YAML.
    """
    found = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"`--set {text}` must be a name and a value: name=value.")
        found[name.strip()] = _numbers(_parse(value, f"`--set {name}`"))
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    raw = read_bytes(path, _MAX_BYTES, ConfigError)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}. Save it as UTF-8.") from error
    found = _parse(text, str(path))
    if not isinstance(found, dict):
        raise ConfigError(f"{path} must hold the parts model, data, training and evaluation, but holds {found!r:.80}.")
    return found


def _parse(text: str, source: str) -> Any:
    yaml = require("yaml", "Reading YAML")

    class Loader(yaml.SafeLoader):  # type: ignore[name-defined, misc]
        """Refuses the same key twice, of which YAML's loader would take the last."""

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                line = node.value[place][0].start_mark.line + 1
                raise ConfigError(f"{source}, line {line}: `{key}` is set twice. Remove one.")
        return dict(loader.construct_mapping(node, deep=True))

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        return yaml.load(text, Loader=Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error


def _numbers(value: Any) -> Any:
    """Return `1e-4`, which YAML takes for a string, as a number."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value
