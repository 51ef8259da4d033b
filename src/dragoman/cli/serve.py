"""`dragoman serve`: models as a service with OpenAI's audio API."""

import logging
from functools import partial
from typing import Annotated

from typer import Option

from dragoman._interrupts import raise_again
from dragoman._lazy import require
from dragoman.cli.console import LOG, session
from dragoman.cli.flags import MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.server.settings import ServerSettings

_MODEL = ("model_dir", "local_files_only", "hf_token", "backend", "device", "compute_type", "threads", "copy_weights")


@with_flags
def serve(
    *,
    models: Annotated[
        list[str] | None,
        Option(
            "--model",
            help="A model, as NAME=FOLDER_OR_ID; may be repeated. A source alone is its own name.",
            metavar="<name=folder_or_id>",
            show_default="Whisper tiny.en, as whisper-tiny.en",
            rich_help_panel="Model",
        ),
    ] = None,
    model: Annotated[ModelFlags, _MODEL],
    server: ServerSettings,
    messages: MessageFlags,
) -> int:
    """Serve models with OpenAI's audio API until Ctrl-C or SIGTERM.

    Anything that speaks to OpenAI's API can use it: set its base URL to http://127.0.0.1:8000/v1.
    """
    running = require("dragoman.server.running", "`dragoman serve`")
    sources = require("dragoman.server.models", "`dragoman serve`").parse_models(models or ())
    options = {
        "device": model.device,
        "source": model.source(),
        "backend": model.backend,
        "compute_type": model.compute_type,
        "copy_weights": model.copy_weights,
    }
    LOG.setLevel(min(LOG.level, logging.INFO))  # a service says what it does; the session restores the level
    raise_again()
    service = running.Service(sources=sources, options=options, threads=model.threads, settings=server)
    own_session = partial(session, debug=messages.debug, json_logs=messages.json_logs, verbose=messages.verbose)
    code: int = running.serve(service, own_session)
    return code
