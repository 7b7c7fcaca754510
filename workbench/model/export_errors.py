"""Explains export errors and finds the line in the user's module that caused them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import ModelError, WorkbenchError, first_lines
from workbench.model.call import of_library
from workbench.model.export_names import TRACE

if TYPE_CHECKING:
    pass


def export_error(error: Exception, line_of: Callable[[str], str]) -> WorkbenchError:
    """Torch's long report, reduced to the cause and the line in the user's code."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    text = "\n".join(str(e) for e in chain)
    missing = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", text)
    where = [m for m in re.findall(r'File "([^"]+)", line (\d+), in (\w+)', text) if not of_library(m[0])]
    place = f" at {where[-1][0]}:{where[-1][1]}" if where else ""
    if missing:
        place = place or line_of(missing[1])
        experts = "Before the export, call model.set_experts_implementation('batched_mm'), which has one. Otherwise: "
        return ModelError(
            f"The torch operation {missing[1]}{place} has no ONNX form.",
            hint=(experts if "grouped_mm" in missing[1] else "")
            + "Rewrite that line with operations that have one, or register a translation "
            "(torch.onnx.export, custom_translation_table).",
            details={"op": missing[1]},
            code="no-onnx-form",
        )
    if "data-dependent" in text or "GuardOnDataDependent" in text:
        return ModelError(
            f"The module branches on the values of a tensor, or computes a size from them{place}. A graph can't hold that.",
            hint="Use torch.where or torch.cond, or make the choice from shapes alone.",
            code="data-dependent",
        )
    return ModelError(
        f"torch.onnx.export failed{place}: {first_lines(chain[-1])}",
        hint="The module itself runs with these inputs. For more details, run torch.export.export(module, inputs).",
        code="export-failed",
    )


def relative_paths(model: Any, root: Path) -> None:
    """Make source paths under `root` relative to its parent, and drop frames from other folders."""
    parent = str(root.parent) + os.sep
    for node in model.graph.all_nodes():
        trace = node.metadata_props.get(TRACE)
        if trace:
            frames = re.split(r'(?=File ")', trace)
            kept = [f.replace(parent, "") for f in frames if parent in f]
            node.metadata_props[TRACE] = "".join(kept)
