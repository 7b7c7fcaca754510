"""Progress on standard error while a build or a conversion runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from workbench.cli.options import console
from workbench.core.safe_text import visible

if TYPE_CHECKING:
    from workbench.build import Build
    from workbench.core.jobs import Job
    from workbench.engine import Engine


Result = TypeVar("Result")


def watch_jobs(start: Callable[[Callable[[Job], None]], Result]) -> Result:
    """Run a conversion, with a progress line on standard error if that is a terminal.

    Args:
        start: Runs it; it gets a function to call with each job that it starts.
    """
    from rich.markup import escape

    out = console(stderr=True)
    if not out.is_terminal:
        return start(lambda _job: None)
    with out.status("Reading the data") as status:

        def watch(job: Job) -> None:
            def tell(now: Job) -> None:
                steps = [f"{p.phase} {p.done}/{p.total}" for p in now.progress if p.done < p.total]
                status.update(f"{now.seconds:5.1f} s  {escape(visible(steps[-1] if steps else now.title))}")

            job.on_change(tell)

        return start(watch)


def watch_build(start: Callable[[], Build], *, show: bool) -> Engine:
    """Run a build with a progress line on standard error; Ctrl-C cancels it."""
    from rich.markup import escape

    out = console(stderr=True)
    if not show or not out.is_terminal:
        return start().result()
    with out.status("Starting") as status:
        build = start()

        def tell(now: Build) -> None:
            steps = [
                f"{p.phase} {p.done}/{p.total}" if p.total > 1 else p.phase for p in now.progress if p.done < p.total
            ]
            text = visible(steps[-1] if steps else now.message or "Working")
            status.update(f"{now.seconds:5.1f} s  {escape(text)}")

        build.on_change(tell)
        return build.result()
