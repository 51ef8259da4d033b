"""Long recordings as jobs: kept in a folder until their result is fetched or old, so that they outlive the server.

The list is an SQLite database, the uploads are files beside it. A job that was running when the server died is queued
again, behind those that were not; one that it died of too often is given up. A result is kept until the job is deleted
or `keep_days` have passed.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from dragoman.errors import ConfigError
from dragoman.server.errors import ApiError

_TABLE = """
create table if not exists jobs (
    id text primary key, state text not null, created real not null, changed real not null, name text not null,
    task text not null, fields text not null, progress real not null default 0, result text, kind text, error text
)
"""
_TRIES = "alter table jobs add column tries integer not null default 0"  # folders of earlier versions have none
_MOST_TRIES = 10
_GIVEN_UP = ApiError(500, f"The server died {_MOST_TRIES} times while it worked on this job.", code="given_up")
_ACTIVE = ("queued", "running")


class Jobs:
    """The jobs of a server.

    Args:
        folder: Where they are kept; made if need be, readable by this user alone.
        keep_days: Days after which a finished job is removed.
        most: Maximum number of jobs that wait or run.

    Raises:
        ConfigError: If the folder cannot be used.
    """

    def __init__(self, folder: Path, keep_days: float, most: int) -> None:
        self._folder, self._keep_seconds, self._most = folder, keep_days * 86_400, most
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = sqlite3.connect(folder / "jobs.sqlite", check_same_thread=False, isolation_level=None)
            self._database.row_factory = sqlite3.Row
            self._database.execute("pragma journal_mode=wal")
            self._database.execute("pragma synchronous=full")
            self._database.execute(_TABLE)
            if "tries" not in [row["name"] for row in self._database.execute("pragma table_info(jobs)")]:
                self._database.execute(_TRIES)
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"`--jobs` {folder} cannot be used: {error}.") from error

    def recover(self) -> None:
        """Repair what an earlier server left, before any process adds jobs."""
        self.requeue()
        self._remove_strays()

    def requeue(self) -> None:
        """Queue again what was running when its process died; what processes died of too often has failed."""
        for row in self._execute("select id from jobs where state = 'running' and tries >= ?", _MOST_TRIES):
            self.fail(row["id"], _GIVEN_UP.body()["error"])
        self._execute("update jobs set state = 'queued', progress = 0 where state = 'running'")

    def release(self) -> None:
        """Queue again what is running, as this process ends in good order."""
        self._execute("update jobs set state = 'queued', progress = 0, tries = tries - 1 where state = 'running'")

    def add(self, upload: IO[bytes], name: str, task: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Keep an upload as a new job, and return the job.

        Raises:
            ApiError: If there are too many.
        """
        (row,) = self._execute("select count(*) as n from jobs where state in ('queued', 'running')")
        if row["n"] >= self._most:
            raise ApiError(
                429,
                f"{self._most} jobs are waiting. Come again later.",
                code="too_many_jobs",
                headers={"Retry-After": "60"},
            )
        number, now = f"job_{uuid.uuid4().hex}", time.time()
        try:
            with open(self.upload(number), "xb", opener=_private) as file:
                upload.seek(0)
                while data := upload.read(1 << 20):
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            (row,) = self._execute(
                "insert into jobs (id, state, created, changed, name, task, fields) "
                "values (?, 'queued', ?, ?, ?, ?, ?) returning *",
                *(number, now, now, name, task, json.dumps(fields)),
            )
        except BaseException:  # a full disk
            self.upload(number).unlink(missing_ok=True)
            raise
        return _described(row)

    def upload(self, number: str) -> Path:
        """Return the path of the upload of a job."""
        return self._folder / f"{number}.upload"

    def get(self, number: str) -> dict[str, Any]:
        """Return a job as it is described to clients.

        Raises:
            ApiError: If there is none.
        """
        return _described(self._row(number))

    def result(self, number: str) -> tuple[str, str]:
        """Return the result of a job and its media type.

        Raises:
            ApiError: If there is no such job, or it is not finished.
        """
        row = self._row(number)
        if row["state"] != "completed":
            raise ApiError(409, f"The job is {row['state']}, so it has no result.", code=f"job_{row['state']}")
        return row["result"], row["kind"]

    def all(self) -> list[dict[str, Any]]:
        """Return all jobs, the latest first."""
        return [_described(row) for row in self._execute("select * from jobs order by created desc limit 1000")]

    def next(self) -> sqlite3.Row | None:
        """Return the oldest job that waits, which is running now; `None` if there is none."""
        rows = self._execute(
            "update jobs set state = 'running', changed = ?, tries = tries + 1 where id = "
            "(select id from jobs where state = 'queued' order by tries, created limit 1) returning *",
            time.time(),
        )
        return rows[0] if rows else None

    def set_progress(self, number: str, progress: float) -> bool:
        """Note how much of a job is done, and return whether it is still wanted."""
        rows = self._execute(
            "update jobs set progress = ? where id = ? and state = 'running' returning id", progress, number
        )
        return bool(rows)

    def complete(self, number: str, result: str, kind: str) -> None:
        """Keep the result of a job; its upload goes."""
        self._execute(
            "update jobs set state = 'completed', progress = 1, changed = ?, result = ?, kind = ? "
            "where id = ? and state = 'running'",
            *(time.time(), result, kind, number),
        )
        self.upload(number).unlink(missing_ok=True)

    def fail(self, number: str, error: dict[str, Any]) -> None:
        """Keep the error of a job; its upload goes."""
        self._execute(
            "update jobs set state = 'failed', changed = ?, error = ? where id = ? and state = 'running'",
            *(time.time(), json.dumps(error), number),
        )
        self.upload(number).unlink(missing_ok=True)

    def delete(self, number: str) -> None:
        """Cancel a job if it waits or runs, and remove it with all that belongs to it.

        Raises:
            ApiError: If there is none.
        """
        self._row(number)
        self._execute("delete from jobs where id = ?", number)
        self.upload(number).unlink(missing_ok=True)

    def remove_old(self) -> None:
        """Remove the finished jobs whose time is over."""
        for row in self._execute(
            f"select id from jobs where changed < ? and state not in {_ACTIVE}", time.time() - self._keep_seconds
        ):
            with contextlib.suppress(ApiError):
                self.delete(row["id"])

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    def _row(self, number: str) -> sqlite3.Row:
        rows = self._execute("select * from jobs where id = ?", number)
        if not rows:
            raise ApiError(404, f"There is no job {number[:100]!r}.", code="job_not_found", param="job")
        return rows[0]

    def _execute(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    def _remove_strays(self) -> None:
        """Remove uploads without a job: the server ended before the job was listed, or after it was deleted."""
        known = {row["id"] for row in self._execute(f"select id from jobs where state in {_ACTIVE}")}
        for path in self._uploads():
            if path.stem not in known:
                path.unlink(missing_ok=True)

    def _uploads(self) -> Iterator[Path]:
        return self._folder.glob("job_*.upload")


def _described(row: sqlite3.Row) -> dict[str, Any]:
    """Return a job as it is described to clients."""
    described = {name: row[name] for name in ("id", "name", "task", "progress")}
    times = {"created_at": int(row["created"]), "changed_at": int(row["changed"])}
    error = {"error": json.loads(row["error"])} if row["error"] else {}
    return {"object": "job", **described, "status": row["state"], **times, **error}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
