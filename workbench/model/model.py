"""A Model: an ONNX file, its graph, and where its nodes come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from workbench.core.errors import ModelError, WorkbenchError
from workbench.model.graph import Graph
from workbench.model.node import Node
from workbench.model.onnx_file import external_files, fingerprint, read_graph
from workbench.model.origin import Origin
from workbench.model.provenance import Source, Sources, kept_sources, source_of

if TYPE_CHECKING:
    import onnx
    import pandas as pd

    from workbench.core.store import Store
    from workbench.model.shape_profile import Shape


@dataclass(frozen=True)
class Model:
    """An ONNX graph with its provenance. Its weights stay on disk.

    Attributes:
        name: Its name in the session.
        path: The ONNX file.
        origin: Where it comes from, and how it was changed.
        original: The model that this one was rewritten from; provenance is read from it.
    """

    name: str
    path: Path
    origin: Origin = field(default_factory=Origin)
    original: Model | None = None

    def derived(self, store: Store, key: str) -> Model | None:
        """The model that was made from this one and kept in `store` under `key`; None if there is none."""
        found = store.derived(key)
        return None if found is None else Model(self.name, found[0], cast("Origin", found[1]), original=self)

    @cached_property
    def graph(self) -> Graph:
        """The graph as declared (shapes may hold symbols); see `Graph.at` for fixed shapes.

        Raises:
            ModelError: the file can't be read.
        """
        return Graph(read_graph(self.path))

    @cached_property
    def companions(self) -> list[Path]:
        """Files next to `path` that hold weights, sorted."""
        return sorted(external_files(self.graph.proto, self.path))

    def write_copy(self, proto: onnx.ModelProto, path: Path) -> Path:
        """Write another graph over the weights of this model: links next to `path` lead to the files that hold them.

        Args:
            proto: The graph; where it has external data, it names them as this model's file does.
            path: The file to write, in a folder that exists and holds none of these names.

        Returns:
            `path`.
        """
        for file in [self.path, *self.companions]:
            link = path.parent / file.relative_to(self.path.parent)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.resolve())
        path.write_bytes(proto.SerializeToString())
        return path

    def sha256(self, store: Store) -> str:
        """Fingerprint of the file and its external data, cached in `store`."""
        return store.fingerprint(
            self.path, lambda: fingerprint(self.path, set(self.companions)), lambda: self.companions
        )

    @cached_property
    def provenance(self) -> dict[str, Source]:
        """The source of each node, by node id, for nodes whose source is known."""
        if self.original is not None:
            known = self.original.provenance
            own = {n.id: s for n in self.graph.nodes if n.id not in known and (s := source_of(n))}
            return {**own, **known}
        return {node.id: source for node in self.graph.nodes if (source := source_of(node)) is not None}

    @cached_property
    def sources(self) -> Sources:
        """Where the text of its source lines may be read from."""
        try:
            return Sources(kept_sources((self.original or self).path), Sources.named())
        except WorkbenchError as error:  # the model itself is intact; its details report the error
            return Sources(folders=Sources.named(), missing=error.message)

    @property
    def bytes(self) -> int:
        """Size on disk, external data included."""
        return sum(p.stat().st_size for p in [self.path, *self.companions])

    def operators(self) -> dict[str, int]:
        """How often each operation occurs, most frequent first."""
        return dict(Counter(node.op for node in self.graph.nodes).most_common())

    def node(self, name: str) -> Node:
        """The node with this id.

        Raises:
            ModelError: there is none.
        """
        try:
            return self.graph.by_id[name]
        except KeyError:
            import difflib

            near = difflib.get_close_matches(name, self.graph.by_id, n=3)
            raise ModelError(
                f"{self.name} has no node {name!r}.",
                hint=f"Did you mean {' or '.join(near)}?" if near else None,
            ) from None

    def to_frame(self, shapes: Mapping[str, Shape] | None = None) -> pd.DataFrame:
        """One row for each node, with its cost at `shapes` (bytes; FLOPs; NaN if unknown) and its place in the source."""
        import pandas as pd

        from workbench.model.cost import node_costs

        graph = self.graph.at(shapes or {})
        costs = node_costs(graph)
        rows = []
        for node in graph.nodes:
            cost, source = costs[node.id], self.provenance.get(node.id)
            rows.append(
                {
                    "node": node.id, "op": node.op, "flops": cost.flops, "bytes_read": cost.bytes_read,
                    "bytes_written": cost.bytes_written, "launches": cost.launches,
                    "module": source.scope if source else "", "class": source.module if source else "",
                    "torch_op": source.op if source else "",
                    "source": f"{Path(source.file).name}:{source.line}" if source and source.file else "",
                    "code": source.code if source else "",
                }
            )  # fmt: skip
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        return f"<Model {self.name}: {len(self.graph.nodes)} nodes, {self.bytes / 1e6:.1f} MB, {self.path}>"
