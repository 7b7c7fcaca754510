"""The wire format: everything that Python sends to the browser, and back.

Rules:
  - JSON only: no NaN and no infinity (send null), no bytes inside.
  - Columnar: one array for each field; the arrays of one table have one length. Row i is item i.
  - A text column is a plain list, or dictionary coded: row i is `dict[code[i]]`. Use the second where few values repeat
    (data type, format, shape): it keeps the message of a large model far below 1 MB.
  - An id is any string; it is unique within its table, is never parsed and never shown as HTML.
  - Optional fields may be left out or be null.

``js/src/types.ts`` is generated from this file by ``python -m tests.support.generate``.
"""

from __future__ import annotations

from typing import Literal

from typing_extensions import NotRequired, TypedDict


class CodedText(TypedDict):
    """A text column, dictionary coded: row i is `dict[code[i]]`."""

    dict: list[str]
    code: list[int]


TextColumn = list[str] | CodedText
"""Text of every row, plain or dictionary coded."""

SelectionKind = Literal["layer", "node"]

Source = Literal["measured", "computed", "estimated", "reported"]
"""Where a number comes from. `estimated` is drawn hatched, with "≈" before the number."""


class NodeColumns(TypedDict):
    """The nodes of a graph."""

    id: list[str]
    """Unique: the name of the layer or of the ONNX node. This is what `selection.ids` holds."""
    label: NotRequired[TextColumn | None]
    """First line of the card. Default: the id."""
    sub: NotRequired[TextColumn | None]
    """Second, quieter line, for example "fp16 · 1x64x56x56". Default: empty."""
    kind: list[int]
    """Index into `GraphData.kinds`."""


class Boxes(TypedDict):
    """Nested boxes around nodes."""

    id: list[str]
    label: TextColumn
    parent: list[int]
    """Index of the box around box i, or -1."""


class Grouping(TypedDict):
    """One way to fold the nodes into nested boxes ("Module scopes", "Kernels", "Blocks").

    The reader chooses one; the first is the default. "No grouping" is always offered too.
    """

    name: str
    """Value of the `grouping` trait."""
    label: str
    """Text in the menu."""
    group: Boxes
    of: list[int]
    """For each node: index of its innermost box, or -1."""


class EdgeColumns(TypedDict):
    """The edges of a graph."""

    source: list[int]
    """Index of the producing node."""
    target: list[int]
    """Index of the consuming node."""
    tensor: NotRequired[TextColumn | None]
    """Tensor name."""
    shape: NotRequired[TextColumn | None]
    """For example "1x64x56x56"."""
    dtype: NotRequired[TextColumn | None]
    """For example "fp16"."""
    format: NotRequired[TextColumn | None]
    """Memory layout, for example "NHWC8"."""
    conversion: NotRequired[list[int] | None]
    """Bit field: 0 none, 1 the layout is converted, 2 the precision is converted, 3 both."""


class Overlay(TypedDict):
    """A column that colors the map. The overlay "kind" is built in and need not be sent."""

    name: str
    """Value of the `overlay` trait."""
    label: str
    unit: str
    """"us", "ms", "B", "FLOP", "%", ... or "" (B, FLOP and times are written with decimal prefixes)."""
    type: Literal["categorical", "sequential", "diverging"]
    values: list[float | None]
    """One for each node; null is "not known". Categorical: index into `categories`."""
    categories: NotRequired[list[str] | None]
    source: Source
    infinite: NotRequired[list[int] | None]
    """Rows whose value is infinite: JSON can't hold it, so `values` has null there."""
    aggregate: NotRequired[Literal["sum", "mean", "max"] | None]
    """What a closed group shows. Default: sum for sequential, mean for diverging."""


class GraphData(TypedDict):
    """A graph: a plan or an ONNX model."""

    version: Literal[1]
    """Version of this format."""
    title: NotRequired[str | None]
    """Shown above the map, for example "resnet50 · plan"."""
    of: SelectionKind
    """What the nodes are: the `kind` of the selection that this graph writes."""
    kinds: list[str]
    """Names of the kinds: conv, gemm, attention, pointwise, reduction, pooling, norm, layout, sync, ..."""
    nodes: NodeColumns
    groupings: list[Grouping]
    edges: EdgeColumns
    overlays: list[Overlay]


LayerFlag = Literal["", "merged", "empty", "split"]
"""merged: executes sibling nodes in one kernel; empty: executes no node; split: shares a node with other layers."""

NodeFlag = Literal["", "split", "folded", "constant", "eliminated", "unknown"]
"""split: executed by several layers; the others: why no layer executes it."""


class Links(TypedDict):
    """Many to many: layer `layer[k]` of the plan executes node `node[k]` of the model (indices)."""

    layer: list[int]
    node: list[int]
    evidence: NotRequired[TextColumn | None]


class Flags(TypedDict):
    """One flag for each layer and for each node."""

    layer: NotRequired[list[LayerFlag] | None]
    node: NotRequired[list[NodeFlag] | None]


class FusionData(TypedDict):
    """A model before and after compilation."""

    version: Literal[1]
    original: GraphData
    """The ONNX graph; its `of` is "node"."""
    plan: GraphData
    """The plan; its `of` is "layer"."""
    links: Links
    flags: NotRequired[Flags | None]
    """What is left out follows from the links: empty, split and unknown. "merged" does not and must be sent."""


class TableColumn(TypedDict):
    """The head of a column."""

    name: str
    label: str
    unit: NotRequired[str | None]
    type: Literal["text", "number", "bytes", "tag"]
    """bytes: a number of bytes, written as kB or MB; tag: a short word drawn as a chip."""
    source: NotRequired[Source | None]
    """Numbers only; "estimated" is written with "≈"."""
    infinite: NotRequired[list[int] | None]
    """Rows whose value is infinite, as in overlays."""


class TableData(TypedDict):
    """A table."""

    version: Literal[1]
    title: NotRequired[str | None]
    of: SelectionKind
    """What the rows are: the `kind` of the selection that this table writes."""
    id: list[str]
    """Row ids, the same ids as in the graph."""
    columns: list[TableColumn]
    rows: list[list[float | str | None] | TextColumn]
    """One array for each column, in the order of `columns`."""


class Fact(TypedDict):
    """One named value."""

    name: str
    value: str | float | None
    unit: NotRequired[str | None]
    """Formatted as in overlays when `value` is a number."""
    source: NotRequired[Source | None]
    note: NotRequired[str | None]


class FactsSection(TypedDict):
    """Named values."""

    type: Literal["facts"]
    title: str
    rows: list[Fact]


class IdsSection(TypedDict):
    """Ids that can be clicked: they become the selection."""

    type: Literal["ids"]
    title: str
    of: SelectionKind
    ids: list[str]
    labels: NotRequired[list[str] | None]


class CodeSection(TypedDict):
    """Lines of source."""

    type: Literal["code"]
    title: str
    path: str
    first: int
    """Number of the first line."""
    lines: list[str]
    mark: list[int]
    """Numbers of the lines that are meant."""


class TableSection(TypedDict):
    """A small table."""

    type: Literal["table"]
    title: str
    columns: list[str]
    rows: list[list[str | float | None]]


class RawSection(TypedDict):
    """Folded at first: the compiler's own record."""

    type: Literal["raw"]
    title: str
    text: str


DetailsSection = FactsSection | IdsSection | CodeSection | TableSection | RawSection


class DetailsRecord(TypedDict):
    """What is known about one layer or node; sent on demand."""

    id: str
    title: str
    words: NotRequired[str | None]
    """What this layer does, in one or two sentences."""
    tags: NotRequired[list[str] | None]
    sections: list[DetailsSection]


class Selection(TypedDict):
    """The one value that all views share. A closed box selects the ids of all nodes within."""

    ids: list[str]
    origin: str
    """Who wrote it: "python", or the name of a view. A view ignores what it wrote itself."""
    kind: SelectionKind


ComponentName = Literal["graph", "fusion", "table", "details"]


class ViewOptions(TypedDict, total=False):
    """Choices that Python fixes when the widget is made; every one is optional."""

    height: float | None
    """CSS pixels. Default 560 (table: 420)."""
    direction: Literal["TB", "LR"] | None
    outline: bool | None
    """Show the outline at first. Default: true where the view is at least 900 px wide."""
    details: bool | None
    """Show a details panel beside the map, filled on demand. Default false."""
    mode: Literal["split", "toggle"] | None
    """fusion only: side by side, or one at a time. Default "split"."""
    sort: str | None
    """table only: name of the column to sort by at first; "-" before it for the largest first."""
    theme: Literal["auto", "light", "dark"] | None
    """"auto" follows the page."""


class DetailsData(TypedDict):
    """What a details view gets in advance: records are sent on demand."""

    engine: str
    """A name of what is shown; it changes when that changes."""


class WidgetState(TypedDict):
    """Traits of the anywidget model, by exact name. For fusion, the last three are those of the plan."""

    component: ComponentName
    """Fixed."""
    data: GraphData | FusionData | TableData | DetailsData | bytes
    """Bytes are UTF-8 JSON, plain or gzip (the first two bytes tell: 1f 8b); better above 100 KB."""
    options: ViewOptions
    """Fixed."""
    selection: Selection
    """Both ways, at most every 60 ms."""
    expanded: list[str]
    """Ids of the open groups, both ways. [] is "collapsed"."""
    overlay: str
    """Both ways. "" and "kind" color by kind."""
    grouping: str
    """Both ways. "" is the first grouping, "none" is no grouping."""


class DetailsRequest(TypedDict):
    """Every request is answered, with the same `request`."""

    type: Literal["details"]
    request: int
    id: str
    kind: SelectionKind


class ViewError(TypedDict):
    """Something failed in the view; it is shown there as well."""

    type: Literal["error"]
    where: str
    message: str
    stack: str


ToPython = DetailsRequest | ViewError
"""Browser to Python."""


class DetailsAnswer(TypedDict):
    """The answer to a `DetailsRequest`."""

    type: Literal["details"]
    request: int
    record: DetailsRecord


class DetailsFailure(TypedDict):
    """The answer to a `DetailsRequest` that failed."""

    type: Literal["details"]
    request: int
    error: str


FromPython = DetailsAnswer | DetailsFailure
"""Python to browser."""


class ReportFigure(TypedDict):
    """A static chart as SVG text, shown as an image, so nothing in it runs. It draws its own title."""

    title: str
    svg: str
    alt: str


class ReportPayload(TypedDict):
    """What the self-contained HTML file passes to `mountReport(element, payload)`."""

    title: str
    subtitle: NotRequired[str | None]
    facts: NotRequired[list[Fact] | None]
    """Headline figures across the top."""
    fusion: NotRequired[FusionData | None]
    """The map: give this or `graph`."""
    graph: NotRequired[GraphData | None]
    tables: NotRequired[list[TableData] | None]
    details: NotRequired[dict[str, DetailsRecord] | None]
    """Keyed "layer:" + id and "node:" + id."""
    figures: NotRequired[list[ReportFigure] | None]
    footer: NotRequired[list[str] | None]
    """Small print: machine, versions, method."""
