"""``session.models``: the session's models by name."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ConfigError, ModelError, NoModelError
from workbench.model.model import Model
from workbench.model.sources import resolve
from workbench.model.trust import imported, mark, torch_source, trusted

if TYPE_CHECKING:
    from workbench.core.jobs import Job
    from workbench.engine import Engine
    from workbench.model.shape_profile import ShapeProfile
    from workbench.session.file import SessionFile
    from workbench.workspace import Workspace


class Models(Mapping[str, Model]):
    """The models of a session by name, in the order in which they were added: ``session.models["resnet50"]``.

    Always current: models that another notebook adds appear here immediately. ``session.models[name]``
    raises `NoModelError`, a `StoreError` and a `KeyError`.
    """

    def __init__(self, workspace: Workspace, file: SessionFile) -> None:
        self._workspace = workspace
        self._file = file

    def __getitem__(self, name: str) -> Model:
        model = self._file.model(name) if isinstance(name, str) else None
        if model is None:
            known = ", ".join(self) or "none yet"
            raise NoModelError(f"Session {self._workspace.name} has no model {name!r}.", hint=f"It has: {known}.")
        return model

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.models())

    def __len__(self) -> int:
        return len(self._file.models())

    def items(self) -> ItemsView[str, Model]:
        """The current names and models."""
        return self._file.models().items()

    def values(self) -> ValuesView[Model]:
        """The current models."""
        return self._file.models().values()

    def resolve(
        self, model: Any, profile: ShapeProfile | None = None, *, on_job: Callable[[Job], Any] | None = None
    ) -> Model:
        """Resolve `model` to a Model; a new one is added to the session.

        Args:
            model: A Model, the name of one in the session, or anything that `Session.add` takes.
            profile: The required shapes. A model that was exported from PyTorch at shapes that exclude
                these is exported again.
            on_job: Called with each job that is started.

        Raises:
            ModelError: there is no such model, or it can't be read or exported.
            StoreError: it must be exported again with untrusted code from an archive.
        """
        if isinstance(model, Model):
            found = model
        elif isinstance(model, str) and (known := self._file.model(model)) is not None:
            found = known
        else:
            return self._workspace.add(model, shapes=profile, on_job=on_job)
        if profile is None or _fits(found, profile) or (source := torch_source(found)) is None:
            return found
        return resolve(source, self._workspace.store, name=found.name, profile=profile, on_job=on_job)

    def of(self, model: Model | Engine | str) -> Model:
        """The session's model of that name, or the one that an engine was built from.

        Raises:
            NoModelError: the session has no model of that name.
            ModelError: the engine's model is gone.
        """
        if isinstance(model, str):
            return self[model]
        if isinstance(model, Model):
            return model
        built = model.source()
        return next((m for m in self.values() if m.path == built.path), built)

    def original(self, low: Model | Engine | str) -> Model:
        """The FP32 model from which a cast or quantized model was created.

        Args:
            low: A model (or its name) from `session.precision.cast` or `quantize`, or an engine of one.

        Raises:
            ModelError: the workbench did not create it, or its FP32 model is no longer in the session.
        """
        model = self.of(low)
        if (exact := model.original) is not None:
            found = next((m for m in self.values() if m.path == exact.path), exact)
            # A model with moved Q/DQ pairs was created from a model that is also quantized.
            return self.original(found) if model.origin.get("kind") == "placement" else found
        source = model.origin.get("source")
        if source is None:
            raise ModelError(
                f"{model.name} was not made by the workbench's cast or quantize, so its FP32 model is unknown.",
                hint="low = session.precision.quantize(model, data), or session.precision.cast(model).",
                code="no-original",
            )
        for other in self.values():
            if other.path.is_file() and other.sha256(self._workspace.store) == source:
                return self.original(other) if model.origin.get("kind") == "placement" else other
        raise ModelError(
            f"The FP32 model of {model.name} is not in session {self._workspace.name}.",
            hint="Add the same file again: session.add(...).",
            code="no-original",
        )

    def trust(self, name: str) -> None:
        """Allow the code that a model from an archive references to run: its factory can then be called.

        Raises:
            NoModelError: the session has no model of that name.
        """
        model = self[name]
        if not trusted(model):
            known = imported(model)
            self._file.update(mark(model, known["archive"] if known else "", trust=True))

    def remove(self, name: str) -> None:
        """Remove a model from the session; its files and engines stay in the store.

        Raises:
            NoModelError: the session has no model of that name.
        """
        _ = self[name]
        self._file.remove(name)
        self._workspace.events.emit("model-removed", {"model": name})

    def __repr__(self) -> str:
        return f"<Models of session {self._workspace.name}: {', '.join(self) or 'none'}>"


def _fits(model: Model, profile: ShapeProfile) -> bool:
    """Whether `model` as exported can be built at these shapes."""
    try:
        model.graph.check_shapes(profile.sizes)
    except ConfigError:
        return False
    return all(r.fixed for r in profile.inputs.values()) or bool(model.graph.dynamic_inputs)
