/**
 * The wire format: everything that Python sends to the browser, and back.
 *
 * Rules
 *  - JSON only: no NaN, no Infinity (send null), no bytes inside.
 *  - Columnar: one array per field; arrays of one table have one length. Row i is item i.
 *  - A text column is a plain `string[]`, or dictionary coded `{dict, code}` (row i is
 *    `dict[code[i]]`). Use the second where few values repeat (dtype, format, shape): it is what
 *    keeps a bert-base message far below 1 MB.
 *  - An id is any string; it is unique within its table, is never parsed and never shown as HTML.
 *  - Optional fields may be left out or be null.
 */

/** Text of every row, plain or dictionary coded. */
export type TextColumn = string[] | { dict: string[]; code: number[] };

/* ---------------------------------------------------------------- graphs */

export interface NodeColumns {
  /** Unique id: the layer's or the ONNX node's name. This is what `selection.ids` holds. */
  id: string[];
  /** First line of the card. Default: the id. */
  label?: TextColumn | null;
  /** Second, quieter line: for instance "fp16 · 1x64x56x56". Default: empty. */
  sub?: TextColumn | null;
  /** Index into `GraphData.kinds`. */
  kind: number[];
}

/**
 * One way to fold the nodes into nested boxes ("Module scopes", "Kernels", "Blocks").
 * The reader chooses among them; the first is the default. "No grouping" is always offered too.
 */
export interface Grouping {
  /** Value of the `grouping` trait. */
  name: string;
  /** Words for the menu. */
  label: string;
  /** The boxes. `parent[i]` is the index of the box around box i, or -1. */
  group: { id: string[]; label: TextColumn; parent: number[] };
  /** For each node: index of its innermost box, or -1 for none. */
  of: number[];
}

export interface EdgeColumns {
  /** Index of the producing node. */
  source: number[];
  /** Index of the consuming node. */
  target: number[];
  /** Tensor name. */
  tensor?: TextColumn | null;
  /** For instance "1x64x56x56". */
  shape?: TextColumn | null;
  /** For instance "fp16". */
  dtype?: TextColumn | null;
  /** Memory layout, for instance "NHWC8". */
  format?: TextColumn | null;
  /** Bit field: 0 none, 1 the layout is converted, 2 the precision is converted, 3 both. */
  conversion?: number[] | null;
}

/** How a number came to be. `estimated` is drawn hatched, with "≈" before the figure. */
export type Source = "measured" | "computed" | "estimated" | "reported";

/** A column that colors the map. An overlay "kind" is built in and need not be sent. */
export interface Overlay {
  /** Value of the `overlay` trait. */
  name: string;
  label: string;
  /** "us", "ms", "B", "FLOP", "%", ... or "" (B, FLOP and times are written with decimal prefixes). */
  unit: string;
  type: "categorical" | "sequential" | "diverging";
  /** One per node; null is "not known". Categorical: index into `categories`. */
  values: (number | null)[];
  categories?: string[] | null;
  source: Source;
  /** Rows whose value is infinite; JSON can't hold it, so that `values` has null there. */
  infinite?: number[] | null;
  /** What a closed group shows. Default: sum for sequential, mean for diverging. */
  aggregate?: "sum" | "mean" | "max" | null;
}

export interface GraphData {
  /** Version of this format. */
  version: 1;
  /** Shown above the map, for instance "resnet50 · plan". */
  title?: string | null;
  /** What the nodes are; it is the `kind` of the selection that this graph writes. */
  of: SelectionKind;
  /** Names of the kinds: conv, gemm, attention, pointwise, reduction, pooling, norm, layout, sync, ... */
  kinds: string[];
  nodes: NodeColumns;
  groupings: Grouping[];
  edges: EdgeColumns;
  overlays: Overlay[];
}

/* ---------------------------------------------------------------- before and after */

/** merged: joined siblings side by side; empty: executes no node; split: shares a node with others. */
export type LayerFlag = "" | "merged" | "empty" | "split";
/** split: executed by several layers; the others: no layer claims it, and why. */
export type NodeFlag = "" | "split" | "folded" | "constant" | "eliminated" | "unknown";

export interface FusionData {
  version: 1;
  /** The ONNX graph; `of` is "node". */
  original: GraphData;
  /** The plan; `of` is "layer". */
  plan: GraphData;
  /** Many to many: plan layer `layer[k]` executes original node `node[k]` (indices). */
  links: { layer: number[]; node: number[]; evidence?: TextColumn | null };
  /**
   * One word per layer and per node. What is left out is derived from the links as far as it can
   * be: empty, split and unknown; "merged" cannot be and must be sent.
   */
  flags?: { layer?: LayerFlag[] | null; node?: NodeFlag[] | null } | null;
}

/* ---------------------------------------------------------------- tables */

export interface TableColumn {
  name: string;
  label: string;
  unit?: string | null;
  /** bytes: a count of bytes, written as kB, MB; tag: a short word drawn as a chip. */
  type: "text" | "number" | "bytes" | "tag";
  /** Numbers only; "estimated" is written with "≈". */
  source?: Source | null;
  /** Rows whose value is infinite, as in overlays. */
  infinite?: number[] | null;
}

export interface TableData {
  version: 1;
  title?: string | null;
  /** What the rows are: the `kind` of the selection that this table writes. */
  of: SelectionKind;
  /** Row ids, the same ids as in the graph. */
  id: string[];
  columns: TableColumn[];
  /** One array per column, in the order of `columns`. */
  rows: ((number | string | null)[] | TextColumn)[];
}

/* ---------------------------------------------------------------- details, on demand */

export interface Fact {
  name: string;
  value: string | number | null;
  /** Formatted as in overlays when `value` is a number. */
  unit?: string | null;
  source?: Source | null;
  note?: string | null;
}

export type DetailsSection =
  | { type: "facts"; title: string; rows: Fact[] }
  /** Ids that can be clicked: they become the selection. */
  | { type: "ids"; title: string; of: SelectionKind; ids: string[]; labels?: string[] | null }
  /** Source lines; `first` is the number of the first line, `mark` the numbers of the lines meant. */
  | { type: "code"; title: string; path: string; first: number; lines: string[]; mark: number[] }
  | { type: "table"; title: string; columns: string[]; rows: (string | number | null)[][] }
  /** Folded away at first: the compiler's own record. */
  | { type: "raw"; title: string; text: string };

export interface DetailsRecord {
  id: string;
  title: string;
  /** One or two sentences in plain words: what this layer does. */
  words?: string | null;
  tags?: string[] | null;
  sections: DetailsSection[];
}

/* ---------------------------------------------------------------- synced state */

export type SelectionKind = "layer" | "node";

/** The one value that all views share. A closed box selects the ids of all nodes within. */
export interface Selection {
  ids: string[];
  /** Who wrote it: "python", or the name of a view. A view ignores what it wrote itself. */
  origin: string;
  kind: SelectionKind;
}

export type ComponentName = "graph" | "fusion" | "table" | "details";

/** UI choices that Python fixes when the widget is made; every one is optional. */
export interface ViewOptions {
  /** CSS pixels. Default 560 (table: 420). */
  height?: number | null;
  direction?: "TB" | "LR" | null;
  /** Show the outline at first. Default: true where the view is at least 900 px wide. */
  outline?: boolean | null;
  /** Show a details panel beside the map, filled on demand. Default false. */
  details?: boolean | null;
  /** fusion only: side by side, or one at a time. Default "split". */
  mode?: "split" | "toggle" | null;
  /** table only: name of the column to sort by at first; "-" before it for the largest first. */
  sort?: string | null;
  /** "auto" follows the page. */
  theme?: "auto" | "light" | "dark" | null;
}

/**
 * Traits of the anywidget model, by exact name.
 *  component  str, fixed
 *  data       dict (GraphData, FusionData or TableData; `{}` for details), or bytes: UTF-8 JSON,
 *             plain or gzip (told by the first two bytes 1f 8b). Bytes are preferred above 100 KB.
 *  options    dict, fixed
 *  selection  dict, both ways, at most every 60 ms
 *  expanded   list[str]: ids of the open groups, both ways. [] is "collapsed"
 *  overlay    str, both ways. "" and "kind" color by kind
 *  grouping   str, both ways. "" is the first grouping, "none" is no grouping
 * For fusion, `expanded`, `overlay` and `grouping` are those of the plan.
 */
export interface WidgetState {
  component: ComponentName;
  data: GraphData | FusionData | TableData | Record<string, never> | DataView | ArrayBuffer;
  options: ViewOptions;
  selection: Selection;
  expanded: string[];
  overlay: string;
  grouping: string;
}

/** Browser to Python. Every `details` is answered, with the same `request`. */
export type ToPython =
  | { type: "details"; request: number; id: string; kind: SelectionKind }
  /** Something failed in the view; it is shown there as well. */
  | { type: "error"; where: string; message: string; stack: string };

/** Python to browser. */
export type FromPython =
  | { type: "details"; request: number; record: DetailsRecord }
  | { type: "details"; request: number; error: string };

/* ---------------------------------------------------------------- the report */

/** What the self-contained HTML file passes to `mountReport(element, payload)`. */
export interface ReportPayload {
  title: string;
  subtitle?: string | null;
  /** Headline figures across the top. */
  facts?: Fact[] | null;
  /** The map: give one of the two. */
  fusion?: FusionData | null;
  graph?: GraphData | null;
  tables?: TableData[] | null;
  /** Keyed "layer:" + id and "node:" + id. */
  details?: Record<string, DetailsRecord> | null;
  /** Static charts as SVG text; they are shown as images, so nothing in them runs. Each draws its own title. */
  figures?: { title: string; svg: string; alt: string }[] | null;
  /** Small print: machine, versions, method. */
  footer?: string[] | null;
}
