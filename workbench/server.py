"""A small Jupyter server extension: Netron's own view of a session's model, from Jupyter's own origin.

Netron's ``widget()`` opens a port of its own, which fails on hubs and behind proxies. Here Netron's files and
the models of sessions are served by the Jupyter server itself, behind its authentication:

    <base>/workbench/netron/<session>/<model>/            Netron's page
    <base>/workbench/netron/<session>/<model>/<file>      its files
    <base>/workbench/netron/<session>/<model>/data/<name> the graph, without its weights

Only models that a session holds can be asked for, by name; no path from the outside is ever opened.
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
        """Nothing from elsewhere: Netron shows the model and talks to nobody."""
        super().set_default_headers()
        self.set_header(
            "Content-Security-Policy",
            "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
            "worker-src 'self' blob:; connect-src 'self' data: blob:; frame-ancestors 'self'",
        )

    @web.authenticated
    @authorized
    async def head(self, *path: str) -> None:
        """Whether the view is there."""
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
            # In a thread, and one graph at a time: reading a large one takes seconds, and Jupyter has to answer meanwhile.
            self.write(await asyncio.get_running_loop().run_in_executor(_reader, _graph, session, model))
        elif file == "":
            self.set_header("Content-Type", _TYPES[".html"])
            # Netron asks an address service whether to ask for consent to be counted; this answers it.
            self.set_cookie("consent", "no", path=url_path_join(self.base_url, "workbench/netron"), samesite="Strict")
            self.write(_page(folder, model))
        else:
            path = folder / Path(file).name  # Netron's files lie flat
            if path.suffix not in _TYPES or not path.is_file():
                raise web.HTTPError(404, f"Netron has no file {file!r}")
            self.set_header("Content-Type", _TYPES[path.suffix])
            self.write(path.read_bytes())
        self.finish()


def _netron() -> Path | None:
    spec = importlib.util.find_spec("netron")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _page(folder: Path, model: str) -> str:
    text = (folder / "index.html").read_text(encoding="utf-8")
    # Version 0.0.0 is what Netron calls a development copy: it asks for no consent and reports to nobody.
    head = (
        '<meta name="type" content="Python">\n<meta name="version" content="0.0.0">\n'
        f'<meta name="file" content="data/{quote(model)}.onnx">\n'
        f'<meta name="identifier" content="{escape(model)}.onnx">\n<meta name="name" content="{escape(model)}">'
    )
    # It refuses to work when its release is half a year old; how old it may be is the installation's business.
    text = re.sub(
        r'<meta name="date" content=".*">', f'<meta name="date" content="{time.strftime("%Y-%m-%d %H:%M:%S")}">', text
    )
    return re.sub(r'<meta name="version" content=".*">', lambda _: head, text)


def _graph(session: str, model: str) -> bytes:
    """The weightless graph of a session's model.

    A weight left on disk stays empty here: Netron shows its type and shape.
    """
    from workbench.core.store import Store
    from workbench.session.session import Session

    try:
        store = Store(reading=True)
        if session not in store.sessions():
            raise web.HTTPError(404, f"There is no session {session!r}")
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
"""The name by which Voila finds it."""
