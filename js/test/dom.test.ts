import { describe, expect, it } from "vitest";
import { Scope } from "../src/dom";
import { stepTo } from "../src/map/search";
import { buildTree, groupingOf, startExpanded } from "../src/map/visible";
import { resnetPlan } from "../demo/data";

describe("a scope", () => {
  const problems: unknown[] = [];
  const scope = new Scope((_, error) => problems.push(error));

  it("forgets a timer that has ended or was stopped", async () => {
    let calls = 0;
    const stop = scope.after("never", 5, () => { calls += 100; });
    scope.after("once", 1, () => { calls++; });
    expect(scope.held).toBe(2);
    stop();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(scope.held).toBe(0);
    expect(calls).toBe(1);
  });

  it("undoes in reverse, and at once when it has ended", () => {
    const order: string[] = [];
    scope.add(() => order.push("first"));
    scope.add(() => order.push("second"));
    scope.dispose();
    scope.add(() => order.push("late"));
    expect(order).toEqual(["second", "first", "late"]);
    expect(scope.held).toBe(0);
    expect(problems).toEqual([]);
  });
});

describe("the hits of a search", () => {
  it("are gone through one by one, round and round, however many were found", () => {
    for (const hits of [1, 3, 40, 41, 100]) {
      const listed = Math.min(40, hits);
      const seen = [0];
      for (let k = 1; k < listed; k++) seen.push(stepTo(seen.at(-1)!, 1, hits));
      expect(seen).toEqual(Array.from({ length: listed }, (_, i) => i));
      expect(stepTo(listed - 1, 1, hits)).toBe(0);
      expect(stepTo(0, -1, hits)).toBe(listed - 1);
    }
  });
});

describe("boxes that were open before", () => {
  const data = resnetPlan();
  const tree = buildTree(data, groupingOf(data, ""));

  it("stay open where they exist", () => expect(startExpanded(tree, ["layer1", "gone"])).toEqual(["layer1"]));
  it("are as at first where another engine has none of them", () => {
    expect(startExpanded(tree, ["gone"])).toEqual(startExpanded(tree));
    const one = { ...data, groupings: [{ name: "g", label: "G", group: { id: ["all"], label: ["all"], parent: [-1] }, of: data.nodes.id.map(() => 0) }] };
    expect(startExpanded(buildTree(one, groupingOf(one, "")), ["gone"])).toEqual(["all"]);
  });
});
