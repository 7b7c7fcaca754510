/**
 * Places the visible graph. dagre runs once per open group over its direct children, innermost
 * first (its own compound mode takes minutes where this takes milliseconds). Pure: the same
 * function runs in the worker and, where workers are refused, on the main thread.
 */
import dagre from "@dagrejs/dagre";

export type Direction = "TB" | "LR";

export interface LayoutRequest {
  direction: Direction;
  /** Parents before children. `parent` is an index into this list or -1. */
  width: number[];
  height: number[];
  parent: number[];
  /** 1 for an open group; its width is then the least width its title needs. */
  open: number[];
  source: number[];
  target: number[];
}

export interface LayoutResult {
  /** Top left corners and sizes, absolute. */
  x: number[];
  y: number[];
  width: number[];
  height: number[];
  /** Polyline of each edge, [x0, y0, x1, y1, ...], from the border of one card to the other's. */
  points: number[][];
  /** Edges led beside the graph, many on one line. */
  rail: boolean[];
  totalWidth: number;
  totalHeight: number;
}

/** Space for the title of an open group, and around its children. */
export const TITLE = 30;
export const PAD = 18;
const NODE_GAP = 26;
const RANK_GAP = 42;
const LANE_GAP = 12;
/** Edges that together cross more ranks than this are led beside the graph, not through it. */
const MAX_CROSSED = 700;

type Graph = InstanceType<typeof dagre.graphlib.Graph>;
interface Port { edge: number; child: number; into: boolean }
interface Inner {
  /** Positions of the children, relative to the content's corner. */
  at: Map<number, { x: number; y: number }>;
  /** Way of each edge between two children, relative. */
  ways: Map<number, number[]>;
  /** Way of an edge from the border to a child, or from a child to the border. */
  ports: Map<string, number[]>;
  rails: Set<number>;
  width: number;
  height: number;
}

export function layout(request: LayoutRequest): LayoutResult {
  const n = request.parent.length;
  const lr = request.direction === "LR";
  const children = new Map<number, number[]>();
  for (let i = 0; i < n; i++) push(children, request.parent[i]!, i);
  const width = [...request.width];
  const height = [...request.height];

  // Each edge belongs to the level where its two ends part; below it, it is a port of each group.
  const own = new Map<number, { edge: number; a: number; b: number }[]>();
  const ports = new Map<number, Port[]>();
  request.source.forEach((s, edge) => {
    const t = request.target[edge]!;
    const up = chain(request.parent, s);
    const down = chain(request.parent, t);
    let common = 0;
    while (common < up.length && common < down.length && up[common] === down[common]) common++;
    const a = up[common];
    const b = down[common];
    if (a === undefined || b === undefined) return;
    push(own, request.parent[a]!, { edge, a, b });
    for (let d = common + 1; d < up.length; d++) push(ports, up[d - 1]!, { edge, child: up[d]!, into: false });
    for (let d = common + 1; d < down.length; d++) push(ports, down[d - 1]!, { edge, child: down[d]!, into: true });
  });

  const inner = new Map<number, Inner>();
  const known = new Map<string, Inner>();
  for (let g = n - 1; g >= -1; g--) {
    if (g >= 0 && !request.open[g]) continue;
    const level = placeLevel(children.get(g) ?? [], own.get(g) ?? [], g >= 0 ? (ports.get(g) ?? []) : [], width, height, lr, known);
    inner.set(g, level);
    if (g >= 0) {
      width[g] = Math.max(request.width[g]!, level.width + 2 * PAD);
      height[g] = level.height + PAD + TITLE + 4;
    }
  }

  const x = new Array<number>(n).fill(0);
  const y = new Array<number>(n).fill(0);
  const origin = (g: number): { x: number; y: number } => {
    if (g < 0) return { x: 0, y: 0 };
    const slack = (width[g]! - 2 * PAD - inner.get(g)!.width) / 2;
    return { x: x[g]! + PAD + slack, y: y[g]! + TITLE + 4 };
  };
  for (let i = 0; i < n; i++) {
    const at = inner.get(request.parent[i]!)?.at.get(i) ?? { x: 0, y: 0 };
    const o = origin(request.parent[i]!);
    x[i] = o.x + at.x;
    y[i] = o.y + at.y;
  }

  const rail = new Array<boolean>(request.source.length).fill(false);
  for (const level of inner.values()) for (const edge of level.rails) rail[edge] = true;
  const points = request.source.map((s, edge) => {
    const t = request.target[edge]!;
    const up = chain(request.parent, s);
    const down = chain(request.parent, t);
    let common = 0;
    while (common < up.length && common < down.length && up[common] === down[common]) common++;
    const way: number[] = [];
    const append = (g: number, part: number[] | undefined): void => {
      const o = origin(g);
      for (let k = 0; part && k < part.length; k += 2) way.push(o.x + part[k]!, o.y + part[k + 1]!);
    };
    for (let d = up.length - 1; d > common; d--) append(up[d - 1]!, inner.get(up[d - 1]!)?.ports.get(`${edge}:out`));
    const level = common > 0 ? up[common - 1]! : -1;
    append(level, inner.get(level)?.ways.get(edge));
    for (let d = common + 1; d < down.length; d++) append(down[d - 1]!, inner.get(down[d - 1]!)?.ports.get(`${edge}:in`));
    return finish(way, box(s), box(t), lr);
  });
  function box(i: number): Box {
    return { x: x[i]!, y: y[i]!, w: width[i]!, h: height[i]! };
  }
  const top = inner.get(-1)!;
  return { x, y, width, height, points, rail, totalWidth: top.width, totalHeight: top.height };
}

interface Box { x: number; y: number; w: number; h: number }

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

/** From the outermost group down to the item itself. */
function chain(parent: number[], item: number): number[] {
  const out: number[] = [];
  for (let at = item; at >= 0; at = parent[at]!) out.unshift(at);
  return out;
}

/**
 * Networks repeat their blocks: a level of the same sizes and edges as one before is not laid out
 * again. The work is done on the level's own numbers, so that the answer fits wherever it recurs.
 */
function placeLevel(
  children: number[],
  edges: { edge: number; a: number; b: number }[],
  ports: Port[],
  width: number[],
  height: number[],
  lr: boolean,
  known: Map<string, Inner>,
): Inner {
  const place = new Map(children.map((c, i) => [c, i]));
  const w = children.map((c) => width[c]!);
  const h = children.map((c) => height[c]!);
  const between = edges.map(({ a, b }, edge) => ({ edge, a: place.get(a)!, b: place.get(b)! }));
  const beyond = ports.map(({ child, into }, edge) => ({ edge, child: place.get(child)!, into }));
  const key = JSON.stringify([w, h, between.map((e) => [e.a, e.b]), beyond.map((p) => [p.child, p.into])]);
  let level = known.get(key);
  if (!level) known.set(key, (level = layoutLevel([...children.keys()], between, beyond, w, h, lr)));
  const led = new Map<string, number[]>();
  ports.forEach(({ edge, into }, i) => {
    const side = into ? "in" : "out";
    const way = level.ports.get(`${i}:${side}`);
    if (way) led.set(`${edge}:${side}`, way);
  });
  return {
    at: new Map([...level.at].map(([i, at]) => [children[i]!, at])),
    ways: new Map([...level.ways].map(([i, way]) => [edges[i]!.edge, way])),
    ports: led,
    rails: new Set([...level.rails].map((i) => edges[i]!.edge)),
    width: level.width,
    height: level.height,
  };
}

function layoutLevel(
  children: number[],
  edges: { edge: number; a: number; b: number }[],
  ports: Port[],
  width: number[],
  height: number[],
  lr: boolean,
): Inner {
  const result: Inner = { at: new Map(), ways: new Map(), ports: new Map(), rails: new Set(), width: 0, height: 0 };
  if (children.length === 0) return result;

  // One way for all edges between the same two children.
  const pairs = new Map<string, { a: number; b: number; edges: number[] }>();
  for (const { edge, a, b } of edges) {
    const key = `${a}>${b}`;
    const pair = pairs.get(key);
    if (pair) pair.edges.push(edge);
    else pairs.set(key, { a, b, edges: [edge] });
  }
  const rank = ranks(children, [...pairs.values()]);
  const { through, beside } = budget([...pairs.values()], rank);
  const hasIn = new Set(through.map((p) => p.b));
  const hasOut = new Set(through.map((p) => p.a));
  const build = (needsIn: Set<number>, needsOut: Set<number>): { graph: Graph; used: Map<string, Port[]> } => {
    const graph: Graph = new dagre.graphlib.Graph({ multigraph: false });
    graph.setGraph({ rankdir: lr ? "LR" : "TB", nodesep: NODE_GAP, ranksep: RANK_GAP, edgesep: 14, ranker: "network-simplex" });
    graph.setDefaultEdgeLabel(() => ({}));
    for (const c of children) graph.setNode(String(c), { width: width[c]!, height: height[c]! });
    for (const { a, b } of through) graph.setEdge(String(a), String(b), { weight: 2 });
    const used = addPorts(graph, ports, needsIn, needsOut, hasIn, hasOut, rank, children);
    dagre.layout(graph);
    return { graph, used };
  };
  let { graph, used } = build(hasIn, hasOut);
  const late = blocked(graph, children, ports, used, width, height, lr);
  if (late.in.size + late.out.size > 0) {
    ({ graph, used } = build(new Set([...hasIn, ...late.in]), new Set([...hasOut, ...late.out])));
  }

  const boxes = new Map<number, Box>();
  let minX = Infinity, minY = Infinity, maxX = -Infinity, maxY = -Infinity;
  const grow = (px: number, py: number): void => {
    minX = Math.min(minX, px); maxX = Math.max(maxX, px);
    minY = Math.min(minY, py); maxY = Math.max(maxY, py);
  };
  for (const c of children) {
    const node = graph.node(String(c)) as { x: number; y: number };
    const b = { x: node.x - width[c]! / 2, y: node.y - height[c]! / 2, w: width[c]!, h: height[c]! };
    boxes.set(c, b);
    grow(b.x, b.y);
    grow(b.x + b.w, b.y + b.h);
  }
  const raw = (from: string, to: string): number[] => {
    const edge = graph.edge(from, to) as { points?: { x: number; y: number }[] } | undefined;
    return (edge?.points ?? []).flatMap((p) => [p.x, p.y]);
  };
  for (const { a, b, edges: list } of through) {
    // The ends are set later, on the borders of the innermost cards.
    const way = raw(String(a), String(b)).slice(2, -2);
    for (let k = 0; k < way.length; k += 2) grow(way[k]!, way[k + 1]!);
    for (const edge of list) result.ways.set(edge, way);
  }
  for (const [name, list] of used) {
    const into = name.startsWith("in");
    const child = String(list[0]!.child);
    const way = into ? raw(name, child).slice(0, -2) : raw(child, name).slice(2);
    for (let k = 0; k < way.length; k += 2) if (lr) grow(minX, way[k + 1]!); else grow(way[k]!, minY);
    for (const port of list) result.ports.set(`${port.edge}:${into ? "in" : "out"}`, way);
  }

  // Long edges share one lane per producer, beside the graph: a rail, in place of a web.
  const lanes = new Map<number, number>();
  const side = lr ? minY : minX;
  for (const { a, b, edges: list } of beside) {
    if (!lanes.has(a)) lanes.set(a, side - LANE_GAP * (lanes.size + 1));
    const lane = lanes.get(a)!;
    const from = boxes.get(a)!;
    const to = boxes.get(b)!;
    const way = lr
      ? [from.x + from.w + 16, from.y + from.h / 2, from.x + from.w + 16, lane, to.x - 16, lane, to.x - 16, to.y + to.h / 2]
      : [from.x + from.w / 2, from.y + from.h + 16, lane, from.y + from.h + 16, lane, to.y - 16, to.x + to.w / 2, to.y - 16];
    for (const edge of list) {
      result.ways.set(edge, way);
      result.rails.add(edge);
    }
    if (lr) minY = Math.min(minY, lane); else minX = Math.min(minX, lane);
  }

  const shift = (way: number[]): number[] => way.map((v, k) => v - (k % 2 === 0 ? minX : minY));
  for (const [c, b] of boxes) result.at.set(c, { x: b.x - minX, y: b.y - minY });
  for (const [edge, way] of result.ways) result.ways.set(edge, shift(way));
  for (const [key, way] of result.ports) {
    // What lies outside the content (the helper ranks) is cut: the way starts at the frame.
    const cut: number[] = [];
    for (let k = 0; k < way.length; k += 2) {
      const px = way[k]!, py = way[k + 1]!;
      if (lr ? px >= minX && px <= maxX : py >= minY && py <= maxY) cut.push(px, py);
    }
    // From the frame straight along the flow to where the free way begins: nothing stands there.
    if (cut.length > 0) {
      const last = cut.length - 2;
      if (key.endsWith(":in")) cut.unshift(lr ? minX : cut[0]!, lr ? cut[1]! : minY);
      else cut.push(lr ? maxX : cut[last]!, lr ? cut[last + 1]! : maxY);
    }
    result.ports.set(key, shift(cut));
  }
  result.width = maxX - minX;
  result.height = maxY - minY;
  return result;
}

/** Longest-path ranks; what is on a cycle keeps rank 0. */
function ranks(children: number[], pairs: { a: number; b: number }[]): Map<number, number> {
  const degree = new Map<number, number>(children.map((c) => [c, 0]));
  const next = new Map<number, number[]>();
  for (const { a, b } of pairs) {
    degree.set(b, degree.get(b)! + 1);
    push(next, a, b);
  }
  const rank = new Map<number, number>(children.map((c) => [c, 0]));
  const queue = children.filter((c) => degree.get(c) === 0);
  for (let head = 0; head < queue.length; head++) {
    const c = queue[head]!;
    for (const d of next.get(c) ?? []) {
      rank.set(d, Math.max(rank.get(d)!, rank.get(c)! + 1));
      degree.set(d, degree.get(d)! - 1);
      if (degree.get(d) === 0) queue.push(d);
    }
  }
  return rank;
}

/** More long edges than this from one producer, or to one consumer, are bundled into a rail. */
const HUB = 4;

/**
 * dagre puts a dummy on every rank an edge crosses, and draws one lane for each. The longest edges
 * are taken out of it, and so are those of hubs (a mask that feeds every block).
 */
function budget<P extends { a: number; b: number }>(pairs: P[], rank: Map<number, number>): { through: P[]; beside: P[] } {
  const span = (p: P): number => Math.abs(rank.get(p.b)! - rank.get(p.a)!);
  const byLength = [...pairs].sort((p, q) => span(p) - span(q));
  let crossed = 0;
  const beside = new Set<P>();
  const long = pairs.filter((p) => span(p) > 2);
  const outs = new Map<number, P[]>();
  const ins = new Map<number, P[]>();
  for (const p of long) {
    push(outs, p.a, p);
    push(ins, p.b, p);
  }
  for (const list of [...outs.values(), ...ins.values()]) if (list.length > HUB) for (const p of list) beside.add(p);
  for (const p of byLength) {
    if (beside.has(p)) continue;
    const extra = Math.max(0, span(p) - 1);
    if (extra > 3 && crossed + extra > MAX_CROSSED) beside.add(p);
    else crossed += extra;
  }
  return { through: pairs.filter((p) => !beside.has(p)), beside: pairs.filter((p) => beside.has(p)) };
}

/**
 * An edge from outside to a child that stands in the middle would run through its siblings. A
 * helper node on the first (or last) rank makes dagre keep a free way for it.
 */
function addPorts(
  graph: Graph,
  ports: Port[],
  needsIn: Set<number>,
  needsOut: Set<number>,
  hasIn: Set<number>,
  hasOut: Set<number>,
  rank: Map<number, number>,
  children: number[],
): Map<string, Port[]> {
  const used = new Map<string, Port[]>();
  const last = Math.max(0, ...rank.values());
  let crossed = 0;
  for (const port of ports) {
    if (!(port.into ? needsIn : needsOut).has(port.child)) continue;
    const name = `${port.into ? "in" : "out"}:${port.child}`;
    const known = used.get(name);
    if (known) {
      known.push(port);
      continue;
    }
    crossed += port.into ? rank.get(port.child)! : last - rank.get(port.child)!;
    if (crossed > MAX_CROSSED / 2) break;
    used.set(name, [port]);
  }
  if (used.size === 0) return used;
  const helper = { width: 1, height: 1 };
  const inside = [...used.keys()].some((k) => k.startsWith("in"));
  const outside = [...used.keys()].some((k) => k.startsWith("out"));
  if (inside) {
    graph.setNode("top", { ...helper });
    for (const c of children) if (!hasIn.has(c)) graph.setEdge("top", String(c), { weight: 0 });
  }
  if (outside) {
    graph.setNode("bottom", { ...helper });
    for (const c of children) if (!hasOut.has(c)) graph.setEdge(String(c), "bottom", { weight: 0 });
  }
  for (const [name, list] of used) {
    const child = String(list[0]!.child);
    graph.setNode(name, { ...helper });
    if (name.startsWith("in")) {
      graph.setEdge("top", name, { weight: 50 });
      graph.setEdge(name, child, { weight: 1 });
    } else {
      graph.setEdge(child, name, { weight: 1 });
      graph.setEdge(name, "bottom", { weight: 50 });
    }
  }
  return used;
}

/**
 * Children that nothing inside feeds usually stand first, and an edge from outside reaches them
 * straight. Where dagre pulled one down beside its consumer, siblings are in the way.
 */
function blocked(
  graph: Graph, children: number[], ports: Port[], used: Map<string, Port[]>, width: number[], height: number[], lr: boolean,
): { in: Set<number>; out: Set<number> } {
  const found = { in: new Set<number>(), out: new Set<number>() };
  const boxes = children.map((c) => {
    const { x, y } = graph.node(String(c)) as { x: number; y: number };
    const [along, across, size, breadth] = lr ? [x, y, width[c]!, height[c]!] : [y, x, height[c]!, width[c]!];
    return { c, from: along - size / 2, to: along + size / 2, across, half: breadth / 2 + 8 };
  });
  const byChild = new Map(boxes.map((b) => [b.c, b]));
  for (const { child, into } of ports) {
    const set = into ? found.in : found.out;
    if (set.has(child) || used.has(`${into ? "in" : "out"}:${child}`)) continue;
    const me = byChild.get(child)!;
    const inTheWay = boxes.some((b) => b.c !== child && Math.abs(b.across - me.across) < b.half + me.half && (into ? b.to <= me.from : b.from >= me.to));
    if (inTheWay) set.add(child);
  }
  return found;
}

/** Adds the two ends on the borders of the cards and drops points that say nothing. */
function finish(way: number[], s: Box, t: Box, lr: boolean): number[] {
  const toward = (v: number, low: number, size: number): number => {
    // Leave the border where the way goes, but not at the rounded corners.
    const inset = Math.min(size / 2, 22);
    return Math.min(low + size - inset, Math.max(low + inset, v));
  };
  const firstX = way.length ? way[0]! : t.x + t.w / 2;
  const firstY = way.length ? way[1]! : t.y + t.h / 2;
  const lastX = way.length ? way[way.length - 2]! : s.x + s.w / 2;
  const lastY = way.length ? way[way.length - 1]! : s.y + s.h / 2;
  const blend = (v: number, center: number): number => center + (v - center) * 0.35;
  let start: [number, number];
  let end: [number, number];
  if (lr) {
    start = [s.x + s.w, toward(blend(firstY, s.y + s.h / 2), s.y, s.h)];
    end = [t.x, toward(blend(lastY, t.y + t.h / 2), t.y, t.h)];
  } else {
    start = [toward(blend(firstX, s.x + s.w / 2), s.x, s.w), s.y + s.h];
    end = [toward(blend(lastX, t.x + t.w / 2), t.x, t.w), t.y];
  }
  return simplify([...start, ...way, ...end]);
}

/** Removes points within a pixel of the line between their neighbors. */
export function simplify(way: number[]): number[] {
  const out = way.slice(0, 2);
  for (let k = 2; k + 2 < way.length; k += 2) {
    const ax = out[out.length - 2]!, ay = out[out.length - 1]!;
    const bx = way[k]!, by = way[k + 1]!;
    const cx = way[k + 2]!, cy = way[k + 3]!;
    const length = Math.hypot(cx - ax, cy - ay) || 1;
    const off = Math.abs((cx - ax) * (ay - by) - (ax - bx) * (cy - ay)) / length;
    if (off > 1) out.push(bx, by);
  }
  out.push(way[way.length - 2]!, way[way.length - 1]!);
  return out;
}
