"""A Jupyter server extension that serves Netron's view of a session's model from the Jupyter server's origin.

Netron's ``widget()`` opens another port, which fails on hubs and behind proxies. Here the Jupyter server itself serves
Netron's files and the models of sessions, behind its authentication:

    <base>/workbench/netron/<session>/<model>/            Netron's page
    <base>/workbench/netron/<session>/<model>/<file>      its files
    <base>/workbench/netron/<session>/<model>/data/<name> the graph, without its weights

Only models of a session can be requested, by name; a path in a request is never opened.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import time
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web  # type: ignore[attr-defined]

from workbench.core.errors import WorkbenchError

_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".json": "application/json", ".png": "image/png", ".ico": "image/x-icon",
}  # fmt: skip


_reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="workbench-netron")


class NetronHandler(JupyterHandler):  # type: ignore[misc]
    """Serves Netron's page, its files, and the graph that it shows."""

    auth_resource = "workbench"

    def set_default_headers(self) -> None:
        """Block all other origins: Netron shows the model and connects to no other server."""
        super().set_default_headers()
        self.set_header(
            "Content-Security-Policy",
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            "worker-src 'self' blob:; connect-src 'self' data: blob:; frame-ancestors 'self'",
        )

    @web.authenticated
    @authorized
    async def head(self, *path: str) -> None:
        """Whether the file exists."""
        await self.get(*path)

    @web.authenticated
    @authorized
    async def get(self, session: str, model: str, file: str) -> None:
        """One file of the view of `model` in `session`."""
        folder = _netron()
        if folder is None:
            raise web.HTTPError(404, "Netron is not installed: pip install 'trt-workbench[lab]'")
        if file.startswith("data/"):
            self.set_header("Content-Type", "application/octet-stream")
            # In a thread, one graph at a time: reading a large graph takes seconds, and the server must respond.
            self.write(await asyncio.get_running_loop().run_in_executor(_reader, _graph, session, model))
        elif file == "":
            self.set_header("Content-Type", _TYPES[".html"])
            # Without this cookie Netron calls an internet service to find out whether it needs consent for analytics.
            self.set_cookie("consent", "no", path=url_path_join(self.base_url, "workbench/netron"), samesite="Strict")
            self.write(_page(folder, model))
        else:
            path = folder / Path(file).name  # all of Netron's files are in one folder
            if path.suffix not in _TYPES or not path.is_file():
                raise web.HTTPError(404, f"Netron has no file {file!r}.")
            self.set_header("Content-Type", _TYPES[path.suffix])
            self.write(path.read_bytes())
        self.finish()


def _netron() -> Path | None:
    spec = importlib.util.find_spec("netron")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _page(folder: Path, model: str) -> str:
    text = (folder / "index.html").read_text(encoding="utf-8")
    # Version 0.0.0 is a development version for Netron: it asks for no consent and sends no reports.
    head = (
        '<meta name="type" content="Python">\n<meta name="version" content="0.0.0">\n'
        f'<meta name="file" content="data/{quote(model)}.onnx">\n'
        f'<meta name="identifier" content="{escape(model)}.onnx">\n<meta name="name" content="{escape(model)}">'
    )
    # Netron stops working half a year after its release. Which release is installed is the user's decision.
    text = re.sub(
        r'<meta name="date" content=".*">', f'<meta name="date" content="{time.strftime("%Y-%m-%d %H:%M:%S")}">', text
    )
    return re.sub(r'<meta name="version" content=".*">', lambda _: head, text)


def _graph(session: str, model: str) -> bytes:
    """The graph of a session's model without its weights.

    Weights that stay on disk are empty here: Netron shows their type and shape.
    """
    from workbench.core.store import Store
    from workbench.session.session import Session

    try:
        store = Store(reading=True)
        if session not in store.sessions():
            raise web.HTTPError(404, f"Session {session!r} does not exist")
        opened = Session(session, store=store)
        try:
            proto = opened.models[model].graph.proto
        finally:
            opened.close()
        data: bytes = proto.SerializeToString()
    except WorkbenchError as error:
        raise web.HTTPError(404, error.message) from None
    return data


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "workbench.server"}]


def _load_jupyter_server_extension(app: Any) -> None:
    pattern = url_path_join(app.web_app.settings["base_url"], r"/workbench/netron/([^/]+)/([^/]+)/(.*)")
    app.web_app.add_handlers(".*$", [(pattern, NetronHandler)])


load_jupyter_server_extension = _load_jupyter_server_extension
"""Entry point for Voila, which looks up this name."""
