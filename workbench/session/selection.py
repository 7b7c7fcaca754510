"""The selection that all views of a session share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from workbench.core.errors import ModelError
from workbench.core.events import PROCESS, Selection

if TYPE_CHECKING:
    from workbench.plan import Plan
    from workbench.session.file import SessionFile
    from workbench.workspace import Workspace


def selected(file: SessionFile) -> Selection:
    """What is selected."""
    data = file.get("selection")
    return Selection() if data is None else Selection(data["kind"], tuple(data["ids"]), data["origin"])


def select(workspace: Workspace, file: SessionFile, selection: Selection, origin: str | None) -> None:
    """Set the selection and publish an event, unless nothing changes."""
    chosen = replace(selection, origin=origin or f"{PROCESS}/python")
    now = selected(file)
    if (now.kind, now.ids) == (chosen.kind, chosen.ids):
        return
    data = {"kind": chosen.kind, "ids": list(chosen.ids), "origin": chosen.origin}
    file.set("selection", data)
    workspace.events.emit("selection", data, origin=chosen.origin)


def read(workspace: Workspace, value: Selection | str | Iterable[str] | None) -> Selection:
    """Convert `value` to a Selection: ids are nodes if no layer of the current plan has these ids."""
    chosen = Selection.of(value)
    if isinstance(value, Selection) or not chosen.ids or not _are_nodes(workspace, chosen.ids):
        return chosen
    return replace(chosen, kind="node")


def kind_of(item: str, plan: Plan) -> Literal["layer", "node"] | None:
    """Whether `item` is a layer or a node of `plan`; None if it is neither."""
    if item in plan.by_id:
        return "layer"
    return "node" if item in plan.layers_of or item in plan.reasons else None


def _are_nodes(workspace: Workspace, ids: Sequence[str]) -> bool:
    """Whether `ids` are nodes and not layers, in the current plan, else in a model of the session."""
    engine = workspace.engines.current
    kinds = {kind_of(i, engine.plan) for i in ids} if engine is not None else {None}
    if kinds != {None}:
        return "layer" not in kinds
    for model in workspace.models.values():
        with contextlib.suppress(ModelError):  # its file is gone, so it has no nodes to select
            if any(i in model.graph.by_id for i in ids):
                return True
    return False
