"""One engine as every view needs it: its plan, its graph, costs by node, and where nodes come from.

Views ask a Lens, so that this is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from workbench import compilers
from workbench.core.errors import ProfileError, StoreError, WorkbenchError
from workbench.model.cost import Cost, node_costs
from workbench.model.provenance import Sources
from workbench.plan import Plan

if TYPE_CHECKING:
    from workbench.analysis.times import LayerTimes
    from workbench.engine import Engine
    from workbench.model.graph import Graph
    from workbench.model.model import Model
    from workbench.model.provenance import Source
    from workbench.plan import Layer
    from workbench.plan.vocabulary import Vocabulary


class Lens:
    """A plan with its model, where that can still be read.

    Args:
        plan: What to look at.
        graph: The model at the shapes that the plan was made for; None where the file is gone.
        provenance: Source by node id.
        missing: Why there is no graph.
        errors: Errors against FP32 along the graph (`Engine.errors`); None where none were measured.
        times_missing: Why there are no times although something was measured.
        estimate: Estimated times, for views that show them next to measured values.
        sources: Where the text of source lines may be taken from; by default the sample models, and the folders that
            ``WORKBENCH_SOURCES`` names.
    """

    def __init__(
        self,
        plan: Plan,
        graph: Graph | None = None,
        provenance: dict[str, Source] | None = None,
        missing: str = "",
        times_missing: str = "",
        estimate: LayerTimes | None = None,
        errors: Mapping[str, Any] | None = None,
        sources: Sources | None = None,
    ) -> None:
        self.sources = Sources(folders=Sources.named()) if sources is None else sources
        self.plan = plan
        self.graph = graph
        self.provenance = provenance or {}
        self.missing = missing
        self.errors = errors
        self.times_missing = times_missing
        self.estimate = estimate

    @staticmethod
    def of(engine: Engine) -> Lens:
        """The lens of an engine, with the times of its newest profile; with its model if the file still exists.

        If a profile can't be joined to the plan, `times_missing` says why and the plan has no times.

        Raises:
            StoreError: the engine's folder was removed.
        """
        plan, problem = engine.plan, ""
        try:
            plan = engine.measured
        except ProfileError as error:
            problem = error.message
        try:
            model = engine.source()
            return Lens(
                plan, engine.graph(), model.provenance, times_missing=problem, errors=engine.errors,
                sources=model.sources,
            )  # fmt: skip
        except WorkbenchError as error:
            return Lens(plan, missing=error.message, times_missing=problem, errors=engine.errors)

    @staticmethod
    def of_plan(plan: Plan, model: Model | None = None) -> Lens:
        """The lens of a plan that no engine of a session stands behind, such as `session.files.inspect` gives.

        Args:
            plan: What to look at.
            model: The model that it was built from, where that is known.
        """
        from workbench.plan.from_layers import input_shapes

        if model is None:
            return Lens(plan, missing="it was not given (--model, or model=)")
        return Lens(plan, model.graph.at(input_shapes(plan.io)), model.provenance, sources=model.sources)

    @staticmethod
    def of_model(model: Model) -> Lens:
        """The lens of a model before its first build: its plan is empty.

        Raises:
            ModelError: the model's file can't be read.
        """
        graph = model.graph if model.graph.dynamic_inputs else model.graph.at({})
        plan = Plan(
            model={"name": model.name, "sha256": None, "nodes": len(graph.nodes)},
            compiler={"name": "", "version": "", "target": "", "gpu": None},
            config={}, seconds={}, layers=(), unclaimed=(), io=(),
        )  # fmt: skip
        return Lens(plan, graph, model.provenance, sources=model.sources)

    def with_estimate(self, estimate: LayerTimes) -> Lens:
        """The same lens with estimated times."""
        return Lens(
            self.plan,
            self.graph,
            self.provenance,
            self.missing,
            self.times_missing,
            estimate,
            self.errors,
            self.sources,
        )

    def for_report(self) -> Lens:
        """The same lens without source text from folders that the user named: a report is passed on to others."""
        return Lens(
            self.plan, self.graph, self.provenance, self.missing, self.times_missing, self.estimate, self.errors,
            replace(self.sources, folders=()),
        )  # fmt: skip

    @property
    def compiled(self) -> bool:
        """Whether there is a plan."""
        return bool(self.plan.layers)

    @property
    def vocabulary(self) -> Vocabulary:
        """What the names of the plan's compiler mean."""
        return compilers.vocabulary(str(self.plan.compiler.get("name")))

    @cached_property
    def costs(self) -> dict[str, Cost]:
        """Costs by node id; empty without a graph."""
        return {} if self.graph is None else node_costs(self.graph)

    def bytes_before(self, layer: Layer) -> int | None:
        """Bytes that the layer's nodes would move as one kernel each; None where one is unknown.

        A node that several layers execute is counted in each, in equal parts.
        """
        total = 0.0
        for node in layer.nodes:
            cost = self.costs.get(node)
            if cost is None or cost.bytes_read is None or cost.bytes_written is None:
                return None
            total += (cost.bytes_read + cost.bytes_written) / len(self.plan.layers_of.get(node, (layer,)))
        return round(total)

    def launches_before(self, layer: Layer) -> int | None:
        """Kernels that the layer's nodes would be, one each."""
        if self.graph is None:
            return None
        return sum(self.costs[node].launches for node in layer.nodes if node in self.costs)

    def error(self, layer: Layer) -> float | None:
        """Relative L2 error against FP32 of what the layer stores; None where it was not measured.

        That of its outputs where the compiler names them as the graph does, else that of its last node.
        """
        if self.errors is None:
            return None
        tensors = self.errors["tensors"]
        if stored := [tensors[t.name] for t in layer.outputs if t.name in tensors]:
            return float(max(stored))
        known = [e for n in layer.nodes if (e := self.node_error(n)) is not None]
        return known[-1] if known else None

    def node_error(self, node: str) -> float | None:
        """Relative L2 error against FP32 of a node's outputs, the largest; None where it was not measured."""
        if self.errors is None or self.graph is None or node not in self.graph.by_id:
            return None
        known = [e for t in self.graph.by_id[node].outputs if (e := self.errors["tensors"].get(t)) is not None]
        return float(max(known)) if known else None

    @property
    def error_note(self) -> str:
        """How the errors were measured."""
        if self.errors is None:
            return ""
        return f"relative L2 against FP32, ONNX Runtime on the CPU, {self.errors['samples']} samples"


def need_graph(lens: Lens) -> Graph:
    """The graph of a lens.

    Raises:
        StoreError: the model's file is gone.
    """
    if lens.graph is None:
        raise StoreError(
            f"The model of this plan can't be opened: {lens.missing}",
            hint="Put the file back and open the view again.",
        )
    return lens.graph
