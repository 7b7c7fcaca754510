"""The options of a measurement in the Profile panel."""

from __future__ import annotations

from typing import Any

import ipywidgets as w

from workbench.core.errors import WorkbenchError

FILE = "a file"
REFERENCES = ("the model as written", "nothing", FILE)


class ProfileForm(w.HBox):  # type: ignore[misc]
    """What to measure, how long, on which inputs, and what to compare the outputs with."""

    def __init__(self) -> None:
        style = {"description_width": "120px"}
        field = {"layout": w.Layout(width="330px"), "style": style}
        self.graph = w.Checkbox(
            value=True, description="in a CUDA graph too", indent=False, layout=w.Layout(width="190px")
        )
        self.transfers = w.Checkbox(
            value=False, description="with transfers too", indent=False, layout=w.Layout(width="190px")
        )
        self.duration = w.BoundedIntText(
            value=1000, min=10, max=600_000, step=500, description="Duration, ms",
            tooltip="Each latency is measured at least this long", **field,
        )  # fmt: skip
        self.inputs = w.Text(
            placeholder="random values, or an .npz file", description="Inputs", continuous_update=False, **field
        )
        self.reference = w.Dropdown(
            options=REFERENCES, description="Compare with", tooltip="What the outputs should be", **field
        )
        self.reference_file = w.Text(
            placeholder=".npz of outputs, or .onnx", description="Reference file", continuous_update=False, **field
        )
        self.batches = w.Text(
            placeholder="none, or sizes such as 1, 8, 32", description="Batches too", continuous_update=False,
            tooltip="Also measure at these sizes of the first dimension; needs a dynamic engine", **field,
        )  # fmt: skip
        super().__init__(
            [w.VBox([self.graph, self.transfers]), w.VBox([self.duration, self.inputs]),
             w.VBox([self.reference, self.reference_file, self.batches])],
            layout=w.Layout(display="none", flex_flow="row wrap", grid_gap="0 24px", padding="4px 0"),
        )  # fmt: skip
        self.reference.observe(self._toggle_file, "value")
        self._toggle_file()
        self._gpu = True

    def _toggle_file(self, _change: object = None) -> None:
        self.reference_file.layout.display = None if self.reference.value == FILE else "none"

    def for_gpu(self, gpu: bool) -> None:
        """Show or hide the options that only a GPU has."""
        self._gpu = gpu
        for box in (self.graph, self.transfers):
            box.layout.display = None if gpu else "none"

    def options(self) -> dict[str, Any]:
        """Arguments of `session.measure.start_profile`, without those at their defaults.

        Raises:
            WorkbenchError: a reference file or batch sizes are missing or wrong.
        """
        out: dict[str, Any] = {}
        if self._gpu and not self.graph.value:
            out["graph"] = False
        if self._gpu and self.transfers.value:
            out["transfers"] = True
        if self.duration.value != 1000:
            out["duration_ms"] = float(self.duration.value)
        if self.batches.value.strip():
            out["batches"] = batches_of(self.batches.value)
        if self.inputs.value.strip():
            out["inputs"] = self.inputs.value.strip()
        if self.reference.value == "nothing":
            out["reference"] = False
        elif self.reference.value == FILE:
            if not self.reference_file.value.strip():
                raise WorkbenchError(
                    "Choose a reference file.",
                    hint="Write the path of an .npz file of outputs, or of an ONNX file.",
                    code="no-reference-file",
                )
            out["reference"] = self.reference_file.value.strip()
        return out


def batches_of(text: str) -> list[int]:
    """Batch sizes from a field: ``1, 8, 32``.

    Raises:
        WorkbenchError: one is not a whole number above 0 (code ``batch-sizes``).
    """
    try:
        found = [int(part) for part in text.replace(",", " ").split()]
    except ValueError:
        found = [0]
    if any(n < 1 for n in found):
        raise WorkbenchError(
            f"{text!r} is not a list of batch sizes.", hint="Write whole numbers, such as 1, 8, 32.", code="batch-sizes"
        )
    return found
