"""The page at `/` and its files: plain HTML, CSS and JavaScript modules, as they are in `page/`."""

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse

from dragoman.server.errors import ApiError

_FOLDER = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def add_page(app: FastAPI) -> None:
    """Add the page to an application."""
    files = {path.name: path for path in _FOLDER.iterdir() if path.suffix in _TYPES}

    def served(name: str) -> FileResponse:
        if name not in files:
            raise ApiError(404, "Not Found.")
        kind = _TYPES[files[name].suffix]
        return FileResponse(files[name], media_type=f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})

    @app.head("/", include_in_schema=False)
    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return served("index.html")

    @app.get("/page/{name}", include_in_schema=False)
    async def file(name: str) -> FileResponse:
        return served(name)
