"""Progress on standard error while a build or a conversion runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from workbench.cli.options import console
from workbench.core.safe_text import visible

if TYPE_CHECKING:
    from workbench.core.jobs import Job


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
