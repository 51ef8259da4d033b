"""A server that speaks the part of the hub's protocol that uploads and downloads use.

Run it with a folder, in which each repository becomes a folder; it prints its port.
"""

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Repositories in a folder; what begins with a dot there is about the requests."""

    protocol_version = "HTTP/1.1"
    root: Path

    def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def json(self, value: Any) -> None:
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def words(self) -> list[str]:
        return unquote(urlsplit(self.path).path).strip("/").split("/")

    def do_POST(self) -> None:
        content, words = self.rfile.read(int(self.headers.get("Content-Length", 0))), self.words()
        if self.headers.get("Authorization") != "Bearer right":
            self.answer(401, {"X-Error-Message": "Invalid credentials"}, b"")
        elif words == ["api", "validate-yaml"]:
            self.json({"errors": [], "warnings": []})
        elif words[:3] == ["api", "repos", "create"]:
            asked = json.loads(content)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            (self.root / name).mkdir(parents=True, exist_ok=True)
            with (self.root / name / ".created").open("a") as file:
                file.write(json.dumps(asked))
            self.json({"url": f"http://{self.headers['Host']}/{name}", "name": name})
        elif words[4] == "preupload":
            paths = [file["path"] for file in json.loads(content)["files"]]
            self.json({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]})
        elif words[4] == "commit":
            self.commit(self.root / words[2] / words[3], words[5], [json.loads(line) for line in content.splitlines()])
            page = f"http://{self.headers['Host']}/{words[2]}/{words[3]}/commit/{SHA}"
            self.json({"success": True, "commitOid": SHA, "commitUrl": page})
        else:
            self.json({})

    def commit(self, folder: Path, revision: str, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                (folder / value["path"]).write_bytes(base64.b64decode(value["content"]))
            else:
                (folder / ".commit").write_text(json.dumps({**value, "revision": revision}))

    def do_GET(self) -> None:
        words = self.words()
        api = words[:2] == ["api", "models"]
        name = "/".join(words[2:4] if api else words[:2])
        folder, path = self.root / name, self.root / name / words[-1]
        files = [file for file in folder.glob("[!.]*") if file.is_file()]
        if not folder.is_dir():
            self.answer(404, {"X-Error-Code": "RepoNotFound"}, b"")
        elif not api and path not in files:
            self.answer(404, {"X-Error-Code": "EntryNotFound"}, b"")
        elif not api:
            etag = f'"{path.stat().st_mtime_ns}"'
            self.answer(200, {"ETag": etag, "X-Repo-Commit": SHA}, path.read_bytes())
        elif "tree" in words:
            self.json([{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name} for f in files])
        else:
            self.json({"id": name, "sha": SHA, "siblings": [{"rfilename": file.name} for file in files]})

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Stay silent."""


if __name__ == "__main__":
    Hub.root = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    print(server.server_address[1], flush=True)
    server.serve_forever()
