"""The dashboard's files; a plain page where they were not built."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.staticfiles import StaticFiles

DASHBOARD = Path(str(files("headrace"))) / "gateway" / "dashboard"
FOREVER = "public, max-age=31536000, immutable"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self' ws: wss:; frame-ancestors 'self'"
)
NOT_BUILT = """<!doctype html><html lang="en"><title>headrace</title>
<body style="font: 16px/1.5 system-ui; margin: 4rem auto; max-width: 36rem">
<h1>headrace is running</h1>
<p>The dashboard was not built. In a source checkout run <code>make web</code> and reload.</p>
<p><a href="/docs">API documentation</a> · <a href="/health">health</a> ·
<a href="/app">topics and tables</a></p></body></html>"""


class _Assets(StaticFiles):
    """Files whose names carry their hash never change."""

    def file_response(self, *args: object, **options: object) -> Response:
        """Serve a file with headers that let it be kept for ever."""
        response = super().file_response(*args, **options)  # type: ignore[arg-type]  # passed on as is
        response.headers["Cache-Control"] = FOREVER
        return response


def add_page(gateway: FastAPI, folder: Path = DASHBOARD) -> None:
    """Serve the dashboard of `folder` at `/`, its hashed files under `/assets`."""
    assets = folder / "assets"
    if assets.is_dir():
        gateway.mount("/assets", _Assets(directory=assets), name="assets")

    @gateway.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        del request
        index = folder / "index.html"
        if not index.is_file():
            return HTMLResponse(NOT_BUILT)
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "X-Content-Type-Options": "nosniff",
        }
        return FileResponse(index, headers=headers)

    for extra in ("favicon.svg", "THIRD_PARTY_LICENSES.txt"):
        if (folder / extra).is_file():
            _add_file(gateway, folder / extra)


def _add_file(gateway: FastAPI, path: Path) -> None:
    @gateway.get(f"/{path.name}", include_in_schema=False)
    def file() -> Response:
        return FileResponse(path)
