/** Numbers for people: 12.4 µs, 3.1 MB, 2.2 GFLOP. Decimal prefixes, as in workbench/core/units.py. */
import type { Source } from "./types";

const TIME = ["ns", "us", "ms", "s"];
const BYTES = ["B", "kB", "MB", "GB", "TB"];
const SI = ["", "k", "M", "G", "T", "P"];

export function formatValue(value: number | null | undefined, unit = "", source?: Source | null): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return "not finite";
  const prefix = source === "estimated" ? "≈ " : "";
  return prefix + formatPlain(value, unit);
}

function formatPlain(value: number, unit: string): string {
  const sign = value < 0 ? "−" : "";
  const size = Math.abs(value);
  if (unit === "B" || unit === "bytes") return sign + climb(size, BYTES, 0);
  if (TIME.includes(unit)) return sign + (size === 0 ? `0 ${unit === "us" ? "µs" : unit}` : climb(size, TIME, TIME.indexOf(unit))).replace("us", "µs");
  if (unit === "FLOP" || unit === "FLOPs" || unit === "FLOP/s") {
    const [figure, si] = climb(size, SI, 0).split(" ");
    return `${sign}${figure} ${si ?? ""}${unit}`;
  }
  if (unit === "%") return `${sign}${figures(size)} %`;
  return sign + figures(size) + (unit ? ` ${unit}` : "");
}

function climb(size: number, steps: string[], from: number): string {
  let at = from;
  let value = size;
  // 999.5 and above would be written as 1000.
  while (value >= 999.5 && at < steps.length - 1) { value /= 1000; at++; }
  while (value > 0 && value < 1 && at > 0 && from > 0) { value *= 1000; at--; }
  return `${figures(value)} ${steps[at]!}`.trimEnd();
}

/** Three significant figures, thousands grouped by a thin space. */
export function figures(value: number): string {
  if (Number.isInteger(value)) return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, "\u2009");
  if (value !== 0 && (value < 0.001 || value >= 1e9)) return value.toExponential(2);
  if (value >= 1000) return figures(Math.round(value));
  return String(Number(value.toPrecision(3)));
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${figures(count)} ${count === 1 ? one : many}`;
}
