"""A real JupyterLab on 127.0.0.1 and the system's Chromium, driven by Playwright.

Where there is no Chromium these tests are skipped; ``make test-all`` installs it first where it may.
``WORKBENCH_SHOTS=folder`` keeps the screenshots.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import HAS_RTX, HAS_TORCH
from tests.support.browser import FLAGS, Lab, Watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

_shots: list[Path] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for folder in _shots:
        terminalreporter.write_line(f"Screenshots of the browser tests: {folder}")


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser."""
    found = _chromium()
    if found is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    return found


# Package scope: Playwright keeps an event loop in this thread, which tests of notebooks must not meet.
@pytest.fixture(scope="package")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless chromium with a fresh user data folder, which Playwright makes and removes."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS, headless=True)
        yield started
        started.close()


_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[_failed] = report.failed
    return report


@pytest.fixture
def context(
    request: pytest.FixtureRequest, shots: Path, browser: Browser
) -> Iterator[Callable[..., tuple[BrowserContext, Watch]]]:
    """Make a window; at the end of the test nothing may have been logged as an error or asked of another host."""
    made: list[tuple[BrowserContext, Watch]] = []

    def make(width: int = 1280, height: int = 900, **options: object) -> tuple[BrowserContext, Watch]:
        window = browser.new_context(viewport={"width": width, "height": height}, **options)
        window.set_default_timeout(30_000)
        made.append((window, Watch(window)))
        return made[-1]

    yield make
    for window, _ in made:
        if request.node.stash.get(_failed, False):
            for i, page in enumerate(window.pages):
                page.screenshot(path=shots / f"failed-{request.node.name}-{i}.png")
        window.close()
    problems = [problem for _, watch in made for problem in watch.problems]
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="package")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go; the path is printed at the end."""
    wanted = os.environ.get("WORKBENCH_SHOTS")
    folder = Path(wanted) if wanted else tmp_path_factory.mktemp("shots")
    folder.mkdir(parents=True, exist_ok=True)
    _shots.append(folder)
    return folder


@pytest.fixture(scope="package")
def lab_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The WORKBENCH_HOME of Lab and Voila."""
    return tmp_path_factory.mktemp("lab-home")


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory, lab_home: Path, chromium: str) -> Iterator[Lab]:
    """JupyterLab with a token, on a free port."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed: pip install 'trt-workbench[lab]'")
    if not (HAS_RTX and HAS_TORCH):
        pytest.skip("the browser tests build resnet50: pip install 'trt-workbench[rtx,torch]'")
    started = Lab(tmp_path_factory.mktemp("lab"), lab_home)
    yield started
    started.stop()
