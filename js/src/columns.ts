/** Reading text columns, plain or dictionary coded. */
import type { TextColumn } from "./types";

export function textAt(column: TextColumn | null | undefined, row: number): string {
  if (!column) return "";
  if (Array.isArray(column)) return column[row] ?? "";
  const code = column.code[row];
  return code === undefined ? "" : (column.dict[code] ?? "");
}

export function textLength(column: TextColumn): number {
  return Array.isArray(column) ? column.length : column.code.length;
}
