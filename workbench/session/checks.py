"""Run the checks of an engine or a model, including those that need a compiler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from workbench.core.errors import CompilerUnavailableError, NoModelError
from workbench.engine import Engine
from workbench.model.shape_profile import ShapeProfile, profile_of
from workbench.session.options import config_of

if TYPE_CHECKING:
    from workbench.analysis.checks.finding import Findings
    from workbench.core.jobs import Job
    from workbench.workspace import Workspace


def checks(
    workspace: Workspace,
    model: Any,
    *,
    parser: bool,
    ask: Literal["parser", "builder"] | None,
    shapes: Mapping[str, str] | ShapeProfile | None,
    target: str | None,
    precision: Literal["fp32", "fp16", "bf16"],
    on_job: Callable[[Job], None] | None,
) -> Findings:
    """See `Session.checks`."""
    from workbench.analysis.checks.run import of_engine, of_model
    from workbench.compilers.config import check_profiles
    from workbench.compilers.registry import get
    from workbench.hardware.machine import gpus

    if (engine := _engine(workspace, model)) is not None:
        info = get(engine.config.compiler).describe()
        installed = info.version if info.name == engine.config.compiler else None
        return of_engine(engine, here=gpus(), installed=installed, others=workspace.engines[:])
    profile = profile_of(shapes)
    if model is None:
        newest = list(workspace.models.values())[-1:]
        if not newest:
            raise NoModelError(f"Session {workspace.name} has no model yet.", hint='Add one: session.add("resnet50").')
        found = newest[0]
    else:
        found = workspace.models.resolve(model, profile, on_job=on_job)
    if profile is not None:
        found.graph.check_shapes(profile.sizes)
        found.graph.check_values(profile.usual)
    unchecked: list[str] = [] if parser else ["which nodes TensorRT supports: its parser did not run"]
    partition = None
    if parser:
        options: dict[str, Any] = {"precision": precision}
        if target and ask != "parser":
            options["target"] = target
        try:
            if ask == "builder":
                check_profiles(found, config_of(None, {"shapes": profile} if profile else {}))
            partition = workspace.torch.partition(found, method=ask, shapes=profile, on_job=on_job, **options)
            unchecked += [note.rstrip(".") for note in partition.notes]
        except CompilerUnavailableError as error:
            unchecked.append(f"which nodes TensorRT supports: {error.message}")
    return of_model(found, partition, unchecked, profile, precision)


def _engine(workspace: Workspace, model: Any) -> Engine | None:
    """The engine that `model` means; None if it means a model."""
    if model is None:
        return workspace.engines.current
    if isinstance(model, str) and model not in workspace.models:
        return next((e for e in workspace.engines if len(model) >= 4 and e.key.startswith(model)), None)
    return model if isinstance(model, Engine) else None
