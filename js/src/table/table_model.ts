/** Filtering and sorting of columnar tables. Pure. */
import { textAt } from "../columns";
import type { TableData } from "../types";
import { formatValue } from "../units";

export interface Sort { column: number; descending: boolean }

export function isNumeric(table: TableData, column: number): boolean {
  const type = table.columns[column]!.type;
  return type === "number" || type === "bytes";
}

/** How a column's figures came to be, as its heading adds it: nothing where the label says it already. */
export function sourceBeside(column: TableData["columns"][number]): string {
  const { label, source } = column;
  return source && label.toLowerCase() !== source ? source : "";
}

export function cell(table: TableData, column: number, row: number): string | number | null {
  const values = table.rows[column]!;
  if (!Array.isArray(values)) return textAt(values, row);
  return (values[row] ?? null) as string | number | null;
}

/** As shown on screen, and as searched. */
export function cellText(table: TableData, column: number, row: number): string {
  const value = cell(table, column, row);
  const { type, unit, source } = table.columns[column]!;
  if (value === null || value === "") return type === "text" || type === "tag" ? "" : "–";
  if (typeof value === "number") return formatValue(value, type === "bytes" ? "B" : (unit ?? ""), source);
  return value;
}

type Test = (row: number) => boolean;

/**
 * Words separated by spaces must all be found, in any column. `name:word` looks in one column,
 * `name>5`, `name<=2`, `name=conv` compare; a leading minus negates; "two words" are kept together.
 */
export function parseFilter(table: TableData, text: string): Test {
  const parts = text.match(/-?(?:[^\s"]*"[^"]*"|[^\s"]+)/g) ?? [];
  const tests = parts.map((part): Test => {
    const negated = part.startsWith("-") && part.length > 1;
    const body = (negated ? part.slice(1) : part).replace(/"/g, "");
    const test = comparison(table, body) ?? word(table, body);
    return negated ? (row) => !test(row) : test;
  });
  return (row) => tests.every((t) => t(row));
}

/** As people write it in a search: without the thin spaces between thousands. */
const plain = (text: string): string => text.replaceAll("\u2009", "").toLowerCase();

function comparison(table: TableData, body: string): Test | null {
  const match = /^([^:<>=]+)(:|>=|<=|>|<|=)(.+)$/.exec(body);
  if (!match) return null;
  const name = match[1]!.toLowerCase();
  const op = match[2]!;
  const wanted = plain(match[3]!);
  const column = table.columns.findIndex((c) => c.name.toLowerCase() === name || c.label.toLowerCase() === name);
  if (column < 0) return null;
  const figure = Number(wanted);
  if (op !== ":" && isNumeric(table, column) && !Number.isNaN(figure)) {
    return (row) => {
      const v = cell(table, column, row);
      if (typeof v !== "number") return false;
      return op === ">" ? v > figure : op === "<" ? v < figure : op === ">=" ? v >= figure : op === "<=" ? v <= figure : v === figure;
    };
  }
  if (op === "=") return (row) => String(cell(table, column, row) ?? "").toLowerCase() === wanted;
  if (op === ":") return (row) => plain(cellText(table, column, row)).includes(wanted);
  return null;
}

function word(table: TableData, body: string): Test {
  const wanted = plain(body);
  return (row) => {
    if (table.id[row]!.toLowerCase().includes(wanted)) return true;
    for (let c = 0; c < table.columns.length; c++) {
      if (plain(cellText(table, c, row)).includes(wanted)) return true;
    }
    return false;
  };
}

/** "-time" is the column "time", the largest first; null for a column that is not there. */
export function sortOf(table: TableData, wanted: string): Sort | null {
  const descending = wanted.startsWith("-");
  const column = table.columns.findIndex((c) => c.name === wanted.slice(descending ? 1 : 0));
  return column < 0 ? null : { column, descending };
}

/** Row numbers that pass the filter, in the order asked for. Empty cells come last either way. */
export function arrange(table: TableData, filter: string, sort: Sort | null): number[] {
  const rows: number[] = [];
  const test = filter.trim() ? parseFilter(table, filter) : null;
  for (let r = 0; r < table.id.length; r++) if (!test || test(r)) rows.push(r);
  if (!sort) return rows;
  const sign = sort.descending ? -1 : 1;
  const keys = new Map(rows.map((r) => [r, cell(table, sort.column, r)]));
  const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  return rows.sort((a, b) => {
    const x = keys.get(a)!;
    const y = keys.get(b)!;
    const noX = x === null || x === "";
    const noY = y === null || y === "";
    if (noX || noY) return noX === noY ? a - b : noX ? 1 : -1;
    const order = typeof x === "number" && typeof y === "number" ? x - y : collator.compare(String(x), String(y));
    return order * sign || a - b;
  });
}

/** Largest finite size in a column, for the bars behind the figures. */
export function largest(values: TableData["rows"][number]): number {
  if (!Array.isArray(values)) return 0;
  let max = 0;
  for (const v of values as (number | string | null)[]) if (typeof v === "number" && Number.isFinite(v) && Math.abs(v) > max) max = Math.abs(v);
  return max;
}

