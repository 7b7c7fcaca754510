"""What a person does in JupyterLab, as methods. No test and no assertion about the workbench in here."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
import psutil

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page, Request

# For a network that answers nothing; a browser with a GPU process would only wait for one.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
LOCAL = ("http://127.0.0.1:", "ws://127.0.0.1:", "blob:", "data:", "file:", "about:")


SLOW = "[anywidget] Failed to initialize model."
"""anywidget gives a widget's module two seconds to load: on a machine that is busy with other work it may take longer.
Whether a view is there is what the tests look at."""


class Watch:
    """Errors that a window's pages log or raise, and requests that leave the machine."""

    def __init__(self, context: BrowserContext) -> None:
        self.problems: list[str] = []
        self.ignored: list[str] = [SLOW]
        context.on(
            "console", lambda m: self._add(f"console: {m.text} ({m.location['url']})") if m.type == "error" else None
        )
        context.on("weberror", lambda e: self._add(f"page: {e.error}"))
        context.on("request", self._request)

    def _request(self, request: Request) -> None:
        if not request.url.startswith(LOCAL):
            self._add(f"request to another host: {request.url}")

    def _add(self, problem: str) -> None:
        if not any(text in problem for text in self.ignored):
            self.problems.append(problem)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """A Jupyter server of one's own: its settings, history and workspaces are in `folder`."""

    def __init__(self, folder: Path, home: Path, command: list[str]) -> None:
        self.folder, self.home = folder, home
        self.port, self.token = free_port(), secrets.token_hex(16)
        env = {
            **os.environ, "WORKBENCH_HOME": str(home), "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "IPYTHONDIR": str(folder / "ipython"), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"), "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        }  # fmt: skip
        self._log = (folder / "server.log").open("wb")
        values = {"port": str(self.port), "token": self.token, "folder": str(folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *(part.format(**values) for part in command)],
            cwd=folder, env=env, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def _wait(self) -> None:
        until = time.monotonic() + 90
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise RuntimeError(f"The server ended:\n{self.log[-3000:]}")
            try:
                urllib.request.urlopen(f"{self.url}/api?token={self.token}", timeout=2).close()
                return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"The server does not answer:\n{self.log[-3000:]}")

    def workers(self) -> list[int]:
        """Process ids of compiler workers below this server's kernels."""
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    if (
                        any("workbench.core.worker" in part for part in process.cmdline())
                        and process.status() != psutil.STATUS_ZOMBIE
                    ):
                        found.append(process.pid)
        return found

    def stop(self) -> None:
        """End the server and all that it started."""
        tree: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = psutil.Process(self._process.pid).children(recursive=True)
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        for process in [*tree, psutil.Process(self._process.pid)] if self._process.poll() is None else tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait(10)
        self._log.close()


class Lab(Server):
    """JupyterLab, or Notebook 7 as ``app="notebook"``: the same application in another shell."""

    def __init__(self, folder: Path, home: Path, app: str = "jupyterlab") -> None:
        self._app = app
        self._settings = folder / "settings/@jupyterlab/apputils-extension"
        self._settings.mkdir(parents=True)
        # It would ask jupyter.org for news.
        (self._settings / "notification.jupyterlab-settings").write_text(
            json.dumps({"fetchNews": "false", "checkForUpdates": False})
        )
        command = [
            app, "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port={port}",
            "--ServerApp.port_retries=0", "--IdentityProvider.token={token}", "--ServerApp.root_dir={folder}",
            "--expose-app-in-browser",
        ]  # fmt: skip
        super().__init__(folder, home, command)

    def write(self, name: str, cells: list[str]) -> None:
        """A notebook of code cells."""
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, self.folder / name)

    def take(self, path: Path) -> None:
        """A copy of a notebook."""
        shutil.copyfile(path, self.folder / path.name)

    def open(self, context: BrowserContext, name: str) -> Notebook:
        """Open a notebook in a tab of the browser: in light, whatever theme an earlier test left."""
        (self._settings / "themes.jupyterlab-settings").unlink(missing_ok=True)
        page = context.new_page()
        place = "notebooks" if self._app == "notebook" else f"lab/workspaces/{secrets.token_hex(4)}/tree"
        page.goto(f"{self.url}/{place}/{name}?token={self.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=90_000)
        page.wait_for_function(
            "() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'", timeout=60_000
        )
        return Notebook(page)


class Notebook:
    """An open notebook."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def menu(self, *names: str) -> None:
        """Choose from the menu bar."""
        self.page.locator(".lm-MenuBar-item", has_text=names[0]).first.click()
        for name in names[1:]:
            entry = self.page.locator(".lm-Menu-item:visible", has_text=name).first
            entry.wait_for()
            entry.hover()
            if name == names[-1]:
                entry.click()

    def run_all(self, timeout: float = 240) -> None:
        self.menu("Run", "Run All Cells")
        self.wait_idle(timeout)

    def run(self, code: str, timeout: float = 60) -> str:
        """Add a cell at the end, run it, and give its text."""
        self.page.evaluate(
            """async code => {
              const { content } = jupyterapp.shell.currentWidget;
              content.activeCellIndex = content.widgets.length - 1;
              await jupyterapp.commands.execute('notebook:insert-cell-below');
              content.activeCell.model.sharedModel.setSource(code);
              await jupyterapp.commands.execute('notebook:run-cell');
            }""",
            code,
        )
        self.wait_idle(timeout)
        return str(
            self.page.evaluate(
                """() => jupyterapp.shell.currentWidget.content.activeCell.model.outputs.toJSON()
                     .map(o => o.text ?? o.data?.['text/plain'] ?? `${o.ename}: ${o.evalue}`).flat().join('')"""
            )
        )

    def wait_idle(self, timeout: float) -> None:
        """Until no cell runs or waits."""
        self.page.wait_for_timeout(300)
        # The model, not the page: Lab draws only the cells in sight.
        self.page.wait_for_function(
            """() => [...jupyterapp.shell.currentWidget.content.model.cells]
                 .every(c => c.type !== 'code' || c.executionState !== 'running' && c.executionState !== 'awaiting')
               && jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'""",
            timeout=timeout * 1000, polling=250,
        )  # fmt: skip

    def errors(self) -> list[str]:
        """Errors among the outputs of all cells."""
        return list(
            self.page.evaluate(
                """() => [...jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type === 'code')
                     .flatMap(c => c.outputs.toJSON()).filter(o => o.output_type === 'error').map(o => `${o.ename}: ${o.evalue}`)"""
            )
        )

    def show(self, index: int) -> None:
        """Scroll a cell into sight."""
        self.page.evaluate(
            "async i => { const { content } = jupyterapp.shell.currentWidget; content.activeCellIndex = i; await content.scrollToItem(i, 'start'); }",
            index,
        )
        self.page.wait_for_timeout(500)

    def panel(self, title: str) -> Panel:
        """The first panel of that title."""
        box = self.page.locator(f".jp-OutputArea .wbp:has(h3.wbp-title:text-is('{title}'))").first
        box.wait_for()
        box.scroll_into_view_if_needed()
        return Panel(self.page, box)

    def theme(self, name: str) -> None:
        """Choose a theme from the menu."""
        self.menu("Settings", "Theme", name)
        light = "false" if "Dark" in name else "true"
        self.page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
        self.page.wait_for_timeout(800)


class Panel:
    """A panel of the workbench on a page."""

    def __init__(self, page: Page, box: Locator) -> None:
        self.page, self.box = page, box

    def tab(self, name: str) -> None:
        self.box.locator(".lm-TabBar-tab", has_text=name).first.click()
        self.page.wait_for_timeout(300)

    def button(self, name: str) -> Locator:
        return self.box.locator("button.jupyter-button", has_text=name).first

    def view(self, kind: str) -> View:
        """A view by the name of its region: "After", "Layers", ..."""
        selector = {
            "before": ".wb-pane >> nth=0",
            "after": ".wb-pane >> nth=1",
            "graph": ".wb-graph",
            "details": ".wb-details",
        }.get(kind)
        found = self.box.locator(selector) if selector else self.box.locator(f'.wb-root[aria-label="{kind}"]')
        return View(self.page, found.first)


class View:
    """One of our views: a map, a table, details."""

    def __init__(self, page: Page, box: Locator) -> None:
        self.page, self.box = page, box

    @property
    def status(self) -> str:
        return self.box.locator(".wb-status, .wb-count").first.inner_text()

    def wait_status(self, text: str) -> None:
        self.box.locator(".wb-status, .wb-count", has_text=text).first.wait_for()

    def click_a_card(self) -> None:
        """Click in the middle of the map, from the top down, until a card is met."""
        self.box.locator(".wb-cy canvas").first.wait_for()
        self.page.wait_for_timeout(800)
        stage = self.box.locator(".wb-stage")
        stage.scroll_into_view_if_needed()
        size = stage.bounding_box()
        assert size is not None
        for y in range(30, int(size["height"]) - 20, 12):
            stage.click(position={"x": size["width"] / 2, "y": y})
            self.page.wait_for_timeout(150)
            if self.status.split(" selected")[0].split()[-1:] == ["1"]:  # more: an open box was met
                return
        raise AssertionError(f"No card was met: {self.status}")


def until(test: Callable[[], object], seconds: float = 20, what: str = "it") -> None:
    """Wait until `test` holds."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.1)
