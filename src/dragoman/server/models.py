"""The models of a server by name: loaded at the first request, unloaded when nobody uses them."""

import ctypes
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragoman.errors import ConfigError, did_you_mean
from dragoman.server.batching import Batcher
from dragoman.server.errors import ApiError
from dragoman.server.settings import ServerSettings
from dragoman.transcriber.batches import SharedEngine
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.loading import load_engine

_log = logging.getLogger("dragoman")

DEFAULT_NAME = "whisper-tiny.en"


def parse_models(given: Sequence[str]) -> dict[str, str | None]:
    """Return the source of each model by its name, from `NAME=FOLDER_OR_ID` or a source alone.

    A source alone is its own name; a folder has the name of the folder. Without any there is the default model.

    Raises:
        ConfigError: If two have the same name.
    """
    models: dict[str, str | None] = {}
    for text in given:
        name, equals, source = text.partition("=")
        if not equals:
            name, source = (Path(text).resolve().name if Path(text).is_dir() else text), text
        if not name or not source:
            raise ConfigError(f"`--model` must be NAME=FOLDER_OR_ID, or one of both alone, but is {text!r}.")
        if name in models:
            raise ConfigError(f"`--model` gives two models the name {name!r}. Give one another: NAME=FOLDER_OR_ID.")
        models[name] = source
    return models or {DEFAULT_NAME: None}


@dataclass(kw_only=True)
class _Model:
    source: str | None
    engine: Engine | None = None
    batcher: Batcher | None = None
    users: int = 0
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Models:
    """All models.

    Args:
        sources: Folder or hub id by name; the first is the default.
        options: Arguments of `load_engine`: device, source, backend, compute_type, copy_weights.
        settings: How windows are batched.
        observe: Called with the number of windows of each batch.
    """

    def __init__(
        self,
        sources: Mapping[str, str | None],
        options: dict[str, Any],
        settings: ServerSettings,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._models = {name: _Model(source=source) for name, source in sources.items()}
        self._options, self._settings, self._observe = options, settings, observe
        self.created = int(time.time())

    @property
    def names(self) -> list[str]:
        """The names, the default first."""
        return list(self._models)

    @property
    def loaded(self) -> list[str]:
        """The names of those in memory."""
        return [name for name, model in self._models.items() if model.engine is not None]

    def check(self, name: str) -> str:
        """Return a name that is known; an empty one stands for the default.

        Raises:
            ApiError: If there is no such model.
        """
        if name and name not in self._models:
            known = ", ".join(self._models)
            raise ApiError(
                404,
                f"The model {name[:100]!r} does not exist. `model` must be one of: {known}.{did_you_mean(name, known)}",
                code="model_not_found",
                param="model",
            )
        return name or self.names[0]

    @contextmanager
    def use(self, name: str) -> Iterator[Engine]:
        """Load a model if need be, and keep it in memory meanwhile."""
        model = self._models[self.check(name)]
        with model.lock:
            if model.engine is None:
                plain = load_engine(model.source, None, **self._options)
                model.batcher = Batcher(self._settings.max_batch, self._settings.max_delay_ms / 1000, self._observe)
                model.engine = SharedEngine(plain, model.batcher.wait)
            model.users += 1
            engine = model.engine
        try:
            yield engine
        finally:
            with model.lock:
                model.users -= 1
                model.used = time.monotonic()

    def unload_idle(self, seconds: float) -> list[str]:
        """Unload the models that nobody has used for a time, and return their names."""
        return [
            name
            for name, model in self._models.items()
            if model.engine is not None and time.monotonic() - model.used >= seconds and self._unload(name, model)
        ]

    def _unload(self, name: str, model: _Model) -> bool:
        with model.lock:
            if model.users or model.engine is None or model.batcher is None:
                return False
            model.batcher.close()
            model.engine = model.batcher = None
        gc.collect()
        with suppress(OSError, AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)
        _log.info("Unloaded %s.", name)
        return True
