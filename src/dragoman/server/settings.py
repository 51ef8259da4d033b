"""The options of `dragoman serve`: where it listens, who may use it, and the limits of a request."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dragoman.errors import ConfigError
from dragoman.transcriber.fields import documented, option, too_small

_server, _access = partial(option, group="Server"), partial(option, group="Access")
_limit, _batching = partial(option, group="Limits"), partial(option, group="Batching")
_job = partial(option, group="Jobs")


@documented
@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """How the server listens, and what it accepts."""

    host: str = _server("127.0.0.1", "Address to listen on; `0.0.0.0` for all, which needs an API key.")
    port: int = _server(8000, "Port; 0 takes a free one.", at_least=0)
    workers: int = _server(
        1,
        "Number of server processes. Each has its own models (which share the memory of weights read from a file), "
        "batches and limits; the CPU threads are divided.",
        at_least=1,
    )
    preload: bool = _server(False, "Load all models at the start, not at the first request for each.")
    unload_after_s: int | None = _server(
        None, "Unload a model that nobody has used for this many seconds.", unset="never", at_least=1
    )
    drain_s: int = _server(30, "Seconds that requests in progress have to finish after SIGTERM.", at_least=0)
    ssl_certfile: Path | None = _server(None, "Certificate file, for HTTPS.")
    ssl_keyfile: Path | None = _server(None, "Key file of the certificate.")
    api_key_file: Path | None = _access(
        None,
        "File with one API key per line. `DRAGOMAN_API_KEY` in the environment is another one.",
        unset="no key is asked for",
    )
    cors_origin: str | None = _access(
        None, "Origin of other pages whose scripts may use the server, as in `https://example.org`.", unset="none"
    )
    max_upload_mb: int = _limit(25, "Maximum size of a request in MiB.", at_least=1)
    max_seconds: int = _limit(7200, "Maximum duration of a recording in seconds.", at_least=1)
    upload_timeout_s: int = _limit(120, "Seconds in which a request must have arrived.", at_least=1)
    decode_timeout_s: int = _limit(60, "Seconds in which an upload must be decoded to samples.", at_least=1)
    decode_memory_mb: int = _limit(2048, "Addresses of a process that decodes uploads, in MiB.", at_least=256)
    decoders: int = _limit(2, "Number of processes that decode uploads.", at_least=1)
    request_timeout_s: int = _limit(
        600, "Seconds in which a request must be answered; `X-Request-Timeout` in a request may shorten it.", at_least=1
    )
    max_requests: int = _limit(
        64, "Number of requests at a time; further ones are told to come again later (429).", at_least=1
    )
    max_connections: int = _limit(2000, "Number of connections at a time; further ones are closed.", at_least=1)
    max_batch: int = _batching(16, "Maximum number of windows decoded together, over all requests.", at_least=1)
    max_delay_ms: int = _batching(10, "How long a window may wait for others to be decoded with.", at_least=0)
    jobs: Path | None = _job(None, "Folder in which uploads and results of jobs are kept.", unset="no jobs")
    jobs_keep_days: int = _job(7, "Days after which a finished job is removed.", at_least=1)
    max_jobs: int = _job(1000, "Number of jobs that wait or run.", at_least=1)

    def __post_init__(self) -> None:
        problems = list(too_small(self))
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            problems.append("`ssl_certfile` and `ssl_keyfile` belong together. Set both, or neither.")
        if self.port > 65535:
            problems.append(f"`port` must be at most 65535, but is {self.port}.")
        if problems:
            raise ConfigError(" ".join(problems))
