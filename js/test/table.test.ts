import { describe, expect, it } from "vitest";
import { bigPlan, tableOf } from "../demo/data";
import { arrange, cell, cellText, largest, sortOf, sourceBeside } from "../src/table/table_model";
import type { TableData } from "../src/types";

const table: TableData = {
  version: 1, of: "layer", id: ["l0", "l1", "l2", "l10"],
  columns: [
    { name: "name", label: "Layer", type: "text" },
    { name: "kind", label: "Kind", type: "tag" },
    { name: "time", label: "Time", unit: "us", type: "number", source: "measured" },
    { name: "bytes", label: "Bytes", type: "bytes", source: "estimated" },
  ],
  rows: [["layer 2", "layer 10", "Conv one", "other"], { dict: ["conv", "gemm"], code: [0, 1, 0, 1] }, [5, null, 50, 0.5], [1024, 2048, null, 0]],
};

describe("sorting", () => {
  it("sorts figures by size, empty cells last either way", () => {
    expect(arrange(table, "", { column: 2, descending: true })).toEqual([2, 0, 3, 1]);
    expect(arrange(table, "", { column: 2, descending: false })).toEqual([3, 0, 2, 1]);
  });
  it("sorts text the way people count", () => expect(arrange(table, "", { column: 0, descending: false })).toEqual([2, 0, 1, 3]));
  it("keeps the order of equals", () => expect(arrange(table, "", { column: 1, descending: false })).toEqual([0, 2, 1, 3]));
});

describe("the first order", () => {
  it("is named by a column, with - for the largest first", () => {
    expect(sortOf(table, "-time")).toEqual({ column: 2, descending: true });
    expect(sortOf(table, "name")).toEqual({ column: 0, descending: false });
  });
  it("is the given one where there is no such column", () => {
    expect(sortOf(table, "")).toBeNull();
    expect(sortOf(table, "-nothing")).toBeNull();
  });
});

describe("filtering", () => {
  const find = (text: string): number[] => arrange(table, text, null);
  it("needs every word, in any column, whatever the case", () => {
    expect(find("CONV")).toEqual([0, 2]);
    expect(find("conv one")).toEqual([2]);
  });
  it("compares", () => {
    expect(find("time>1")).toEqual([0, 2]);
    expect(find("time<=5 kind=conv")).toEqual([0]);
    expect(find("bytes>=1024")).toEqual([0, 1]);
    expect(find("kind:ge")).toEqual([1, 3]);
  });
  it("negates, keeps quoted words together, and takes an unknown column as a word", () => {
    expect(find("-conv")).toEqual([1, 3]);
    expect(find('"layer 1"')).toEqual([1]);
    expect(find('-"layer 1"')).toEqual([0, 2, 3]);
    expect(find("nothing:like")).toEqual([]);
  });
  it("finds ids too", () => expect(find("l10")).toEqual([3]));
});

describe("cells", () => {
  it("are written with unit and source", () => {
    expect(cellText(table, 2, 0)).toBe("5 µs");
    expect(cellText(table, 3, 1)).toBe("≈ 2.05 kB");
    expect(cellText(table, 2, 1)).toBe("–");
    expect(cell(table, 1, 3)).toBe("gemm");
    expect(largest(table.rows[2]!)).toBe(50);
  });
  it("10,000 rows are filtered and sorted within half a second", () => {
    const big = tableOf(bigPlan(10_000, true));
    const start = performance.now();
    const rows = arrange(big, "kind=gemm time>3", { column: 3, descending: true });
    expect(performance.now() - start).toBeLessThan(500);
    expect(rows.length).toBeGreaterThan(100);
  });
});

it("finds a number of thousands as it is typed, and as it is copied from the table", () => {
  const many: TableData = { version: 1, of: "layer", id: ["a", "b"], columns: [{ name: "index", label: "#", type: "number" }], rows: [[1234, 12]] };
  for (const text of ["1234", "index:1234", "#:234", cellText(many, 0, 0)]) expect(arrange(many, text, null)).toEqual([0]);
});

describe("headings", () => {
  it("say how figures came to be, once", () => {
    expect(sourceBeside(table.columns[2]!)).toBe("measured");
    expect(sourceBeside({ name: "m", label: "Measured", type: "number", source: "measured" })).toBe("");
    expect(sourceBeside(table.columns[0]!)).toBe("");
  });
});
