"""Run a task on a model and data in a worker, and cache the result by content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.jobs import Job
from workbench.core.store import replacing
from workbench.hardware.machine import REWRITERS, made_by
from workbench.model.model import Model
from workbench.precision.data import gather
from workbench.precision.inputs import inputs_of

if TYPE_CHECKING:
    from workbench.core.store import Store
    from workbench.model.shape_profile import Shape


def write_json(file: Path, data: Mapping[str, Any]) -> None:
    """Write `data` as JSON atomically: readers see the complete file or none."""
    with replacing(file) as draft:
        draft.write_text(json.dumps(data))


def measured(
    what: str, exact: Model, store: Store, data: Any, labels: Sequence[int] | None, shapes: Mapping[str, Shape] | None,
    limit: int | None, on_job: Callable[[Job], Any] | None, arguments: dict[str, Any], identity: list[Any],
) -> dict[str, Any]:  # fmt: skip
    """Run a task ``{what}_task`` of ``workbench.precision.{what}`` in a worker, or return its cached result."""
    with store.scratch(what) as folder:
        batches = gather(data, inputs_of(exact.graph, shapes), folder / "batches", limit=limit, min_samples=1)
        wanted = None if labels is None else batches.labels(labels)
        known = json.dumps(
            [VERSION, made_by("onnxruntime", *REWRITERS), what, exact.sha256(store), batches.digest, wanted, identity,
             arguments.get("along")]
        )  # fmt: skip
        file = store.path / "accuracy" / f"{hashlib.sha256(known.encode()).hexdigest()}.json"
        if file.is_file():
            found: dict[str, Any] = json.loads(file.read_text())
            return found
        job = Job(
            f"workbench.precision.{what}:{what}_task",
            {"exact": str(exact.path.resolve()), "batches": str(batches.folder), "labels": wanted, "folder": str(folder), **arguments},
            title=f"{what} of {exact.name}",
        )  # fmt: skip
        if on_job is not None:
            on_job(job)
        answer = {**job.result(), "samples": batches.samples, "source": batches.source}
        write_json(file, answer)
        return answer


VERSION = 3
"""Increase this number when the same request gives different results; cached results are then measured again."""
