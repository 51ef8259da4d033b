"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}` with the status that fits."""

import errno
import logging
import re
from typing import Any

from dragoman.errors import (
    AudioError,
    ConfigError,
    DragomanError,
    MissingDependencyError,
    OutOfMemoryError,
    is_out_of_memory,
)

_log = logging.getLogger("dragoman")

_TYPES = {401: "authentication_error", 429: "rate_limit_error", 404: "not_found_error"}


class ApiError(Exception):
    """A request that cannot be answered.

    Args:
        status: HTTP status.
        message: What was wrong and what to do.
        code: A word for programs.
        param: The field at fault, if it is one.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """Return the body of the response."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class CancelledRequestError(Exception):
    """The client has left, or the time of its request is over."""


def api_error(error: Exception) -> ApiError:
    """Return the error to answer with; what is no fault of the client is logged and not shown."""
    match error:
        case ApiError():
            return error
        case CancelledRequestError():
            return ApiError(504, "The request took longer than its time limit.", code="timeout")
        case MissingDependencyError():
            return ApiError(415, str(error), code="unsupported_format", param="file")
        case AudioError() if "longer than the limit" in str(error):
            return ApiError(413, str(error), code="audio_too_long", param="file")
        case AudioError():
            return ApiError(400, str(error), code="invalid_audio", param="file")
        case OutOfMemoryError() | MemoryError():
            return ApiError(503, "The server is out of memory.", code="out_of_memory", headers={"Retry-After": "10"})
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            _log.error("No space is left: %s.", error)
            return ApiError(503, "The server's disk is full.", code="disk_full", headers={"Retry-After": "60"})
        case ConfigError():
            named = re.match(r"`(\w+)`", str(error))
            return ApiError(400, str(error), code="invalid_value", param=named and named[1])
        case DragomanError():
            _log.error("%s", error)
            return ApiError(500, "The model cannot be used; the server's log says why.", code="model_error")
        case _ if is_out_of_memory(error):
            return api_error(MemoryError())
        case _:
            _log.error("Unexpected %s: %s.", type(error).__name__, error, exc_info=error)
            return ApiError(500, "Unexpected error; the server's log has more.", code="internal_error")
