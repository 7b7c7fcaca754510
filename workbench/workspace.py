"""What the packages below the session see of it.

A `Workspace` has the models, engines and selection that notebooks share, and can build. `workbench.session.Session`
is the one that users have. Packages below the session take a Workspace and never import the session, so that imports
go one way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.analysis.checks.finding import Findings
    from workbench.compilers.config import BuildConfig
    from workbench.core.events import Events, Selection
    from workbench.core.jobs import Job
    from workbench.core.store import Store
    from workbench.engine import Engine
    from workbench.model.model import Model
    from workbench.model.shape_profile import ShapeProfile
    from workbench.plan import Plan
    from workbench.session.engines import Engines
    from workbench.session.files import Files
    from workbench.session.measure import Measure
    from workbench.session.models import Models
    from workbench.session.precision import Precision
    from workbench.session.torch import Torch


class Workspace(Protocol):
    """Models, engines and a selection under one name. The methods are documented at `workbench.session.Session`."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def store(self) -> Store:
        """Where its files are."""

    @property
    def events(self) -> Events:
        """What happened in it."""

    @property
    def models(self) -> Models:
        """Its models by name."""

    @property
    def engines(self) -> Engines:
        """Its engines, newest last, and the builds that make them."""

    @property
    def precision(self) -> Precision:
        """Casts, quantization, and what they cost in accuracy."""

    @property
    def measure(self) -> Measure:
        """Measurements on this machine's GPU."""

    @property
    def torch(self) -> Torch:
        """Torch-TensorRT: partitions and compiled modules."""

    @property
    def files(self) -> Files:
        """Archives and trtexec's files."""

    @property
    def selection(self) -> Selection:
        """What is selected in every view."""

    @selection.setter
    def selection(self, value: Selection | str | Iterable[str] | None) -> None: ...

    def select(self, selection: Selection, *, origin: str | None = None) -> None:
        """Set the selection in the name of `origin`."""

    def add(
        self,
        source: Any,
        inputs: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        on_job: Callable[[Job], None] | None = None,
    ) -> Model:
        """Add a model."""

    def build(
        self, model: Any, config: BuildConfig | None = None, *, time_limit: float | None = None, **options: Any
    ) -> Engine:
        """Build `model` and wait for the engine."""

    def checks(
        self,
        model: Any = None,
        *,
        parser: bool = True,
        ask: Literal["parser", "builder"] | None = None,
        shapes: Mapping[str, str] | ShapeProfile | None = None,
        target: str | None = None,
        precision: Literal["fp32", "fp16", "bf16"] = "fp32",
        on_job: Callable[[Job], None] | None = None,
    ) -> Findings:
        """Problems found in an engine or a model."""

    def panel(self, name: str, plan: Plan | None = None, *, model: Any = None) -> Any:
        """A panel for a notebook."""

    def report(
        self,
        path: str | Path,
        engine: Engine | Plan | str | int | None = None,
        *,
        model: Any = None,
        sources: bool = False,
    ) -> Path:
        """Write one HTML file about an engine."""
