"""Local folders, and the hub client against a small server with the hub's protocol."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from dragoman.checkpoint.source import resolve
from dragoman.errors import ModelNotFoundError
from dragoman.hub import _explain, commit_of

SHA = "0123456789abcdef0123456789abcdef01234567"
OLD_SHA = "89abcdef0123456789abcdef0123456789abcdef"

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
INDEX = json.dumps({"metadata": {}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
HOSTILE_INDEX = json.dumps({"weight_map": {"a": "../../../x"}}).encode()


def files(*names: str) -> dict[str, bytes]:
    return {name: b"{}" if name.endswith(".json") else b"some text" for name in names}


SMALL = ("config.json", "tokenizer.json", "vocab.txt")
REPOSITORIES: dict[str, dict[str, bytes]] = {
    "org/all": files(
        *(*SMALL, "README.md", "onnx/config.json", "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"),
        *("flax_model.msgpack", "tf_model.h5"),
    ),
    "org/bin": files(*SMALL, "pytorch_model.bin", "flax_model.msgpack"),
    "org/flax": files(*SMALL, "flax_model.msgpack"),
    "org/sharded": files(*SMALL, *SHARDS, "model-00003-of-00003.safetensors", "pytorch_model.bin")
    | {"model.safetensors.index.json": INDEX},
    "org/hostile": files(*SMALL) | {"model.safetensors.index.json": HOSTILE_INDEX},
    "org/nested": files("README.md", "part/config.json", "part/model.safetensors", "other/model.safetensors"),
    "org/empty": files("README.md"),
    "tiny": files(*SMALL, "model.safetensors"),
    "org/two": files("config.json", "model.safetensors"),
    "org/broken": files("config.json", "model.safetensors"),
    "org/features": files("model.safetensors") | {"preprocessor_config.json": b'{"sampling_rate": 8000}'},
    "org/mamba": files("model.safetensors") | {"config.json": b'{"model_type": "mamba"}'},
}


class HubHandler(BaseHTTPRequestHandler):
    """The requests that huggingface_hub makes to download a model."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.seen.append(f"{self.command} {path}")  # type: ignore[attr-defined]
        status, headers, content = self.route(path.strip("/").split("/"))
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def route(self, words: list[str]) -> tuple[int, dict[str, str], bytes]:
        api = words[:2] == ["api", "models"]
        words = words[2:] if api else words
        name, words = ("/".join(words[:2]), words[2:]) if words[0] == "org" else (words[0], words[1:])
        if name == "org/gated" and self.headers.get("Authorization") != "Bearer right":
            return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, b""
        files = REPOSITORIES.get("org/all" if name == "org/gated" else name)
        if files is None:
            return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
        kind, revision = (*words, "revision", "main")[:2] if words else ("revision", "main")
        commits = {"main": SHA, SHA: SHA, "v1": OLD_SHA, OLD_SHA: OLD_SHA}
        if revision not in commits:
            return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"}, b""
        if kind == "resolve":
            return self.file(name, commits[revision], "/".join(words[2:]), files)
        if kind == "tree":
            listing: Any = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
        else:
            listing = {"id": name, "sha": commits[revision], "siblings": [{"rfilename": path} for path in files]}
        return 200, {"Content-Type": "application/json"}, json.dumps(listing).encode()

    def file(self, name: str, commit: str, path: str, files: dict[str, bytes]) -> tuple[int, dict[str, str], bytes]:
        if name == "org/broken" and path == "model.safetensors":
            return 403, {}, b"no luck"
        if path not in files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        etag = hashlib.sha256(files[path]).hexdigest()
        return 200, {"ETag": f'"{etag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}, files[path]

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def hub() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def endpoint(hub: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{hub.server_address[1]}"


def ask(calls: list[dict[str, Any]], home: Path, url: str, **environment: str) -> list[dict[str, Any]]:
    """Run `resolve` with each of `calls` in a fresh process whose hub is `url`; return what came of each."""
    code = textwrap.dedent("""
        import json, os, sys, traceback
        from pathlib import Path
        from dragoman.checkpoint.source import resolve
        from dragoman.errors import DragomanError
        from dragoman.hub import commit_of
        for call in json.loads(sys.argv[1]):
            try:
                folder = resolve(call.pop("name"), **call)
                files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
                print(json.dumps({"folder": str(folder), "files": files, "commit": commit_of(folder)}))
            except DragomanError as error:
                print(json.dumps({"error": type(error).__name__, "message": str(error)}))
    """)
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {
        "HF_HOME": str(home),
        "HF_ENDPOINT": url,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)],
        env=env | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_local_folder_is_itself(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    assert resolve(tmp_path) == tmp_path
    assert resolve(str(tmp_path), subfolder="part") == tmp_path / "part"
    assert commit_of(tmp_path) is None


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~") == tmp_path


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "./nothing", "../nothing", "a/b/c", "~/nothing", "C:\\models", "a b", "café"]
)
def test_invalid_hub_ids_are_not_looked_up(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no folder .* cannot be a hub id"):
        resolve(name)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="is a file"):
        resolve(tmp_path / "model.safetensors")


def test_missing_subfolder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no folder 'part'"):
        resolve(tmp_path, subfolder="part")


def test_only_what_is_needed_is_downloaded(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    calls: list[dict[str, Any]] = [
        {"name": "org/all"},
        {"name": "org/bin"},
        {"name": "org/flax"},
        {"name": "org/sharded"},
        {"name": "org/nested", "subfolder": "part/"},
        {"name": "tiny"},
        {"name": "org/two", "patterns": ["*.json"]},
        {"name": "org/all", "use_safetensors": False, "cache_dir": str(tmp_path / "own")},
        {"name": "org/all", "variant": "fp16", "cache_dir": str(tmp_path / "variant")},
        {"name": "org/two", "revision": "v1"},
        {"name": "org/gated", "token": "right", "patterns": ["config.json"]},
    ]
    found = ask(calls, tmp_path / "home", endpoint(hub))
    assert [answer["files"] for answer in found] == [
        sorted([*SMALL, "model.safetensors"]),
        sorted([*SMALL, "pytorch_model.bin"]),
        sorted([*SMALL, "flax_model.msgpack"]),
        sorted([*SMALL, "model.safetensors.index.json", *SHARDS]),
        ["config.json", "model.safetensors"],
        sorted([*SMALL, "model.safetensors"]),
        ["config.json"],
        sorted([*SMALL, "pytorch_model.bin"]),
        sorted([*SMALL, "model.fp16.safetensors"]),
        ["config.json", "model.safetensors"],
        ["config.json"],
    ]
    assert [answer["commit"] for answer in found] == [SHA] * 9 + [OLD_SHA, SHA]
    assert found[0]["folder"].startswith(str(tmp_path / "home" / "hub" / "models--org--all"))
    assert found[7]["folder"].startswith(str(tmp_path / "own" / "models--org--all"))
    assert found[4]["folder"].endswith(f"{SHA}/part")


def test_cached_models_need_no_hub(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    url, home = endpoint(hub), tmp_path / "home"
    online = ask([{"name": "org/sharded"}], home, url)
    seen = len(hub.seen)  # type: ignore[attr-defined]
    again = [{"name": "org/sharded", "local_files_only": True}, {"name": "org/all", "local_files_only": True}]
    cached, missing = ask(again, home, url)
    by_variable = ask([{"name": "org/sharded"}, {"name": "org/bin"}], home, url, HF_HUB_OFFLINE="1")
    assert len(hub.seen) == seen  # type: ignore[attr-defined]
    down = ask([{"name": "org/sharded"}, {"name": "org/bin"}], home, "http://127.0.0.1:9")
    for answer in (cached, by_variable[0], down[0]):
        assert answer["files"] == online[0]["files"]
    for answer in (missing, by_variable[1]):
        assert answer["error"] == "ModelNotFoundError"
        assert "Go online, or pass a local folder" in answer["message"]
    assert "cannot be fetched from http://127.0.0.1:9" in down[1]["message"]


def test_an_unsupported_model_is_not_downloaded(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    """Its family is refused after its configuration has come: for a part, for a whole model, in both backends."""
    code = textwrap.dedent("""
        from dragoman import ConfigError, FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderModel
        for cls in SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel:
            for load, names in (
                (cls.from_pretrained, ["org/mamba"]),
                (cls.from_encoder_decoder_pretrained, ["org/all", "org/mamba"]),
            ):
                try:
                    load(*names)
                except ConfigError as error:
                    assert "'mamba' is not supported" in str(error)
                else:
                    raise AssertionError
    """)
    before = len(hub.seen)  # type: ignore[attr-defined]
    environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint(hub), "HF_HUB_DISABLE_TELEMETRY": "1"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True, timeout=120)
    fetched = [line for line in hub.seen[before:] if "resolve" in line]  # type: ignore[attr-defined]
    assert fetched
    assert all(line.endswith("config.json") for line in fetched)


def test_a_feature_extractor_comes_without_the_weights(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    code = textwrap.dedent("""
        from dragoman import Wav2Vec2FeatureExtractor
        extractor = Wav2Vec2FeatureExtractor.from_pretrained("org/features", revision="main", padding_value=1.0)
        assert (extractor.sampling_rate, extractor.padding_value) == (8000, 1.0)
    """)
    before = len(hub.seen)  # type: ignore[attr-defined]
    environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": endpoint(hub), "HF_HUB_DISABLE_TELEMETRY": "1"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | environment, check=True, timeout=120)
    fetched = [line for line in hub.seen[before:] if "resolve" in line]  # type: ignore[attr-defined]
    assert fetched
    assert all(line.endswith("preprocessor_config.json") for line in fetched)


def test_force_download_asks_again(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    def downloads(**options: Any) -> int:
        before = len(hub.seen)  # type: ignore[attr-defined]
        ask([{"name": "org/two", **options}], tmp_path, endpoint(hub))
        return sum("GET" in line and "resolve" in line for line in hub.seen[before:])  # type: ignore[attr-defined]

    assert (downloads(), downloads(), downloads(force_download=True)) == (2, 0, 2)


def test_every_failure_is_one_helpful_line(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    expected: list[tuple[dict[str, Any], str]] = [
        ({"name": "org/nowhere"}, "'org/nowhere' is neither a folder on this machine nor a model at http"),
        ({"name": "org/gated"}, "'org/gated' is gated: accept its conditions at http"),
        ({"name": "org/gated", "token": "secret-token"}, "is gated"),
        ({"name": "org/all", "revision": "v9"}, "'org/all' has no revision 'v9'"),
        ({"name": "org/empty"}, "org/empty/ on the hub holds no file of a model, only: README.md"),
        ({"name": "org/nested", "subfolder": "parts"}, "org/nested/parts/ on the hub holds no file of a model"),
        ({"name": "org/broken"}, "'org/broken' is neither a folder on this machine nor complete in the hub's cache"),
        ({"name": "org/all", "cache_dir": "/dev/null/cache"}, "'org/all' cannot be fetched"),
        ({"name": "a..b/c"}, "cannot be fetched"),
        ({"name": "org/all", "token": "secret-token\nx"}, "Illegal header value b'Bearer [hidden]"),
    ]
    answers = ask([dict(call) for call, _ in expected], tmp_path, endpoint(hub))
    for answer, (_, message) in zip(answers, expected, strict=True):
        assert answer["error"] == "ModelNotFoundError"
        assert message in answer["message"]
        assert "\n" not in answer["message"]
        assert "secret-token" not in answer["message"]


def test_an_index_on_the_hub_cannot_name_files_elsewhere(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    (answer,) = ask([{"name": "org/hostile"}], tmp_path, endpoint(hub))
    assert answer["error"] == "UntrustedFileError"
    assert "'../../../x'" in answer["message"]


def test_a_full_disk_is_reported() -> None:
    error = RuntimeError("download failed")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert _explain(error, "org/all", None).startswith("The disk is full: 'org/all' cannot be downloaded.")
