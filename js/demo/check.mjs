// Uses the views as a person would, in a real chromium, and times them: node demo/check.mjs
import assert from "node:assert/strict";
import { open } from "./browser.mjs";
import { serve } from "./serve.mjs";

const server = await serve();
const { context, close } = await open();
const problems = [];
const wait = (ms) => new Promise((r) => setTimeout(r, ms));

async function visit(query, { width = 1280, height = 800, init } = {}) {
  const page = await context.newPage();
  page.on("console", (m) => { if (["error", "warning"].includes(m.type())) problems.push(`${query}: ${m.text()}`); });
  page.on("pageerror", (e) => problems.push(`${query}: ${e.message}`));
  if (init) await page.addInitScript(init);
  await page.setViewportSize({ width, height });
  await page.goto(`${server.url}?${query}`);
  if (!query.includes("view=table") && !query.includes("view=report") && !query.includes("view=details")) await page.waitForFunction(() => window.readyMs, null, { timeout: 60_000 });
  return page;
}
const ids = (page) => page.evaluate(() => window.model.get("selection").ids);
const status = (page) => page.locator(".wb-status").first().innerText();
let count = 0;
async function check(name, fn) {
  const before = problems.length;
  try {
    await fn();
    assert.deepEqual(problems.slice(before), []);
    console.log(`ok    ${name}`);
  } catch (error) {
    process.exitCode = 1;
    console.log(`FAIL  ${name}\n      ${String(error.message).split("\n").slice(0, 12).join("\n      ")}`);
  }
  count++;
}

await check("a selection from Python opens the groups around it and is shown", async () => {
  const page = await visit("data=plan&n=3&details=1");
  await page.evaluate(() => window.model.python("selection", { ids: ["_gemm_mha_v2_1"], origin: "python", kind: "layer" }));
  await wait(700);
  assert.match(await status(page), /1 selected/);
  assert.equal(await page.locator('[role=treeitem][aria-selected=true] .wb-name').innerText(), "fused multi-head attention");
  assert.match(await page.locator(".wb-details h3").innerText(), /Correlation/);
  await page.close();
});

await check("a click in the map reaches the model, with this view as origin", async () => {
  const page = await visit("data=resnet");
  const box = await page.locator(".wb-stage").boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + 50);
  await wait(300);
  assert.deepEqual(await ids(page), ["Reformat_in"]);
  assert.match(await page.evaluate(() => window.model.get("selection").origin), /^graph-layer-/);
  await page.mouse.click(box.x + 30, box.y + 300);
  await wait(200);
  assert.deepEqual(await ids(page), []);
  await page.close();
});

await check("keyboard: arrows follow edges, Enter opens, slash searches, Escape clears", async () => {
  const page = await visit("data=resnet");
  await page.locator(".wb-stage").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await wait(150);
  assert.equal((await ids(page)).length, 2, "the stem is a group of two");
  await page.keyboard.press("Enter");
  await wait(400);
  assert.deepEqual(await page.evaluate(() => window.model.get("expanded")), ["stem"]);
  await page.keyboard.press("/");
  await page.keyboard.type("downsample");
  await wait(250);
  assert.equal(await page.locator(".wb-hit").count(), 4);
  await page.keyboard.press("Enter");
  await wait(700);
  assert.deepEqual(await ids(page), ["/layer1/layer1.0/downsample"]);
  await page.keyboard.press("Escape");
  await wait(150);
  assert.deepEqual(await ids(page), []);
  await page.close();
});

await check("the keyboard goes on after a click in the map", async () => {
  const page = await visit("data=resnet");
  const box = await page.locator(".wb-stage").boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + 50);
  await page.keyboard.press("ArrowDown");
  await wait(150);
  assert.equal((await ids(page)).length, 2);
  await page.close();
});

await check("the outline: arrows, opening, selection", async () => {
  const page = await visit("data=resnet");
  await page.locator("[role=tree]").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  await wait(400);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press(" ");
  await wait(200);
  assert.deepEqual(await ids(page), ["/conv1/Conv + /relu/Relu"]);
  await page.close();
});

await check("wheel: not before a click, with Ctrl, after a click", async () => {
  const page = await visit("data=resnet");
  const box = await page.locator(".wb-stage").boundingBox();
  const pixels = () => page.evaluate(() => { const c = document.querySelectorAll(".wb-stage > canvas")[1]; return c.toDataURL().length; });
  await page.mouse.move(box.x + 300, box.y + 300);
  const first = await pixels();
  await page.mouse.wheel(0, 300);
  await wait(200);
  assert.equal(await pixels(), first);
  assert.ok(await page.locator(".wb-hint").isVisible());
  await page.keyboard.down("Control");
  await page.mouse.wheel(0, 300);
  await page.keyboard.up("Control");
  await wait(200);
  const second = await pixels();
  assert.notEqual(second, first);
  await page.mouse.click(box.x + 30, box.y + 300);
  await page.mouse.wheel(0, 300);
  await wait(200);
  assert.notEqual(await pixels(), second);
  await page.close();
});

await check("overlay, grouping and expanded follow Python; the menu reaches the model", async () => {
  const page = await visit("data=resnet");
  await page.evaluate(() => window.model.python("overlay", "bytes"));
  await wait(150);
  assert.match(await page.locator(".wb-foot").innerText(), /Bytes moved[\s\S]*≈ estimated/);
  await page.evaluate(() => window.model.python("expanded", ["layer1", "layer2"]));
  await wait(400);
  assert.match(await status(page), /13 cards/);
  await page.locator('select[aria-label="Color by"]').selectOption("precision");
  assert.equal(await page.evaluate(() => window.model.get("overlay")), "precision");
  await page.locator('select[aria-label="Group by"]').selectOption("none");
  await wait(500);
  assert.match(await status(page), /^58 layers/);
  await page.evaluate(() => document.body.setAttribute("data-jp-theme-light", "false"));
  await wait(200);
  assert.equal(await page.locator(".wb-root").getAttribute("data-theme"), "dark");
  await page.close();
});

await check("two views of one model, and a clean end", async () => {
  const page = await visit("data=resnet");
  const one = await page.evaluate(() => window.model.listeners);
  await page.evaluate(() => { window.cleanup2 = window.again(); });
  await wait(800);
  await page.evaluate(() => window.model.python("selection", { ids: ["/fc/Gemm"], origin: "python", kind: "layer" }));
  await wait(700);
  assert.equal(await page.locator('.wb-status:has-text("1 selected")').count(), 2);
  await page.evaluate(() => window.cleanup2());
  assert.equal(await page.evaluate(() => window.model.listeners), one);
  await page.evaluate(() => window.cleanup());
  assert.equal(await page.evaluate(() => window.model.listeners), 0);
  assert.equal(await page.locator(".wb-root").count(), 0);
  await page.evaluate(() => window.model.python("selection", { ids: [], origin: "python", kind: "layer" }));
  await page.close();
});

await check("a view that shows engine after engine leaves nothing behind", async () => {
  const page = await visit("data=resnet&details=1");
  const first = await page.evaluate(() => window.model.listeners);
  for (let k = 0; k < 4; k++) {
    await page.evaluate((k) => window.model.python("data", { ...window.model.get("data"), title: `engine ${k}` }), k);
    await page.waitForFunction((k) => document.querySelector(".wb-title")?.textContent === `engine ${k}` && document.querySelector("[data-ready]"), k);
  }
  assert.equal(await page.evaluate(() => window.model.listeners), first);
  assert.equal(await page.locator(".wb-root").count(), 1);
  await page.evaluate(() => window.model.python("data", { nodes: 3 }));
  await wait(200);
  await page.evaluate(() => window.model.python("data", { nodes: 4 }));
  await wait(200);
  assert.equal(await page.locator(".wb-root").count(), 1, "a fault takes the place of the view, and of the fault before");
  assert.match(await page.locator(".wb-error").innerText(), /nodes.id/);
  problems.length = 0; // the fault is reported to Python as well
  await page.close();
});

await check("search: Enter takes what is typed at once, arrows go through all that is listed", async () => {
  const page = await visit("data=big&n=300");
  const input = page.locator(".wb-search input");
  await input.fill("pointwise");
  await wait(250);
  const listed = await page.locator(".wb-hit").count();
  assert.equal(listed, 40);
  const chosen = () => page.locator('.wb-hit[aria-selected=true]').getAttribute("data-at");
  await page.keyboard.press("ArrowDown");
  assert.equal(await chosen(), "1");
  await page.keyboard.press("ArrowUp");
  await page.keyboard.press("ArrowUp");
  assert.equal(await chosen(), "39");
  await input.evaluate((e, text) => {
    e.value = text;
    e.dispatchEvent(new Event("input"));
    e.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter" }));
  }, "attention_17_5");
  await wait(900);
  assert.deepEqual(await ids(page), ["layer_17_5"]);
  assert.ok(await page.locator(".wb-hits").isHidden());
  await page.close();
});

await check("another grouping: keys and clicks before it is drawn choose nothing", async () => {
  const page = await visit("data=resnet");
  await page.evaluate(() => window.model.python("selection", { ids: ["/fc/Gemm"], origin: "python", kind: "layer" }));
  await wait(400);
  const chosen = await ids(page);
  await page.evaluate(() => {
    const select = document.querySelector('select[aria-label="Group by"]');
    select.value = "none";
    select.dispatchEvent(new Event("change"));
    for (const key of ["ArrowUp", "Enter"]) document.querySelector(".wb-stage").dispatchEvent(new KeyboardEvent("keydown", { key }));
    document.querySelector(".wb-outline .wb-row:last-child").click();
  });
  await page.waitForFunction(() => document.querySelector(".wb-status").textContent.includes("58 layers") && document.querySelector("[data-ready]").dataset.ready === "2");
  await wait(150);
  assert.deepEqual(await ids(page), chosen);
  assert.equal(await page.locator(".wb-error").count(), 0);
  await page.close();
});

await check("a range of rows begins at the row that was clicked, also after sorting", async () => {
  const page = await visit("view=table&data=resnet");
  const names = () => page.evaluate(() => window.model.get("selection").ids);
  await page.locator('.wb-tr[data-at="2"]').click();
  await wait(120);
  const [begin] = await names();
  await page.locator(".wb-th").nth(1).click();
  await page.locator(".wb-th").nth(1).click();
  await wait(150);
  const at = Number(await page.locator('.wb-tr[aria-selected=true]').getAttribute("data-at"));
  await page.locator(`.wb-tr[data-at="${at > 3 ? at - 1 : at + 1}"]`).click({ modifiers: ["Shift"] });
  await wait(150);
  assert.equal((await names()).length, 2);
  assert.ok((await names()).includes(begin));
  await page.close();
});

await check("labels that look like HTML are text", async () => {
  const page = await visit("data=hostile&open=outer <script>window.__hacked = true</script><img src=x onerror=\"window.__hacked=true\">");
  await page.locator(".wb-stage").hover({ position: { x: 400, y: 90 } });
  await page.keyboard.press("/");
  await page.locator(".wb-search input").fill("script");
  await wait(400);
  assert.equal(await page.evaluate(() => window.__hacked), undefined);
  assert.equal(await page.locator(".wb-root script, .wb-root img").count(), 0);
  await page.close();
});

await check("a page that refuses workers falls back", async () => {
  const page = await visit("data=resnet&open=layer1,layer2,layer3,layer4,layer3/layer3.0,layer3/layer3.1,layer3/layer3.2,layer3/layer3.3,layer1/layer1.0,layer1/layer1.1,layer1/layer1.2,layer2/layer2.0,layer2/layer2.1", { init: () => { window.Worker = class { constructor() { throw new Error("refused"); } }; } });
  assert.match(await status(page), /4\d cards/);
  await page.close();
});

await check("gzip bytes as data", async () => {
  const page = await visit("data=resnet&gzip=1");
  assert.match(await status(page), /8 cards for 58 layers/);
  await page.close();
});

await check("bad data is refused in words, on screen and to Python", async () => {
  const page = await visit("data=resnet");
  await page.evaluate(() => window.model.python("data", { version: 1, kinds: [], nodes: { id: ["a"], kind: [0] }, groupings: [], overlays: [], edges: { source: [4], target: [0] }, of: "layer" }));
  await wait(300);
  assert.match(await page.locator(".wb-error").innerText(), /Edge 0 points to a node that does not exist/);
  assert.equal(await page.evaluate(() => window.model.sent.at(-1).type), "error");
  await page.close();
});

await check("too many cards are asked about first", async () => {
  const page = await visit("data=big&n=2016");
  await page.locator('button[aria-label="Open everything"]').click();
  assert.match(await page.locator("[role=alertdialog]").innerText(), /2.016 cards/);
  await page.locator("[role=alertdialog] >> text=Cancel").click();
  assert.equal(await page.locator("[role=alertdialog]").count(), 0);
  await page.close();
});

await check("a layout can be cancelled", async () => {
  const page = await visit("data=big&n=10000");
  await page.locator('button[aria-label="Open everything"]').click();
  await page.locator("[role=alertdialog] >> text=Show them").click();
  await page.locator('.wb-panel:has-text("Laying out") >> text=Cancel').click();
  await wait(200);
  assert.match(await status(page), /Cancelled/);
  assert.ok((await page.evaluate(() => window.model.get("expanded").length)) < 5);
  await page.locator("[role=tree]").focus();
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowRight");
  // The worker was ended, so the next layout starts a new one.
  await page.waitForFunction(() => /cards for/.test(document.querySelector(".wb-status").textContent), null, { timeout: 10_000 });
  await page.close();
});

await check("before and after: hover lights, selection crosses, toggle flies", async () => {
  const page = await visit("view=fusion&n=3&open=encoder,encoder/layer.0");
  await page.evaluate(() => window.model.python("selection", { ids: ["sm80_xmma_gemm_f16_qkv_0"], origin: "python", kind: "layer" }));
  await wait(1000);
  assert.match(await page.locator(".wb-status").nth(0).innerText(), /6 selected/);
  assert.match(await page.locator(".wb-status").nth(1).innerText(), /1 selected/);
  // Pointing at the layer after it, above which it stands in the plan, paints the other map anew.
  const ink = () => page.evaluate(() => { const c = document.querySelectorAll(".wb-stage")[0].querySelectorAll(":scope > canvas")[1]; return c.toDataURL(); });
  const stage = await page.locator(".wb-stage").nth(1).boundingBox();
  await page.mouse.move(stage.x + 4, stage.y + 4);
  await wait(200);
  const unlit = await ink();
  let lit = false;
  for (let y = 20; y < stage.height && !lit; y += 18) {
    await page.mouse.move(stage.x + stage.width / 2, stage.y + y);
    await wait(60);
    lit = (await ink()) !== unlit;
  }
  assert.ok(lit, "nothing was lit in the graph");
  await page.evaluate(() => window.model.python("selection", { ids: ["/encoder/layer.0/attention/self/Softmax"], origin: "python", kind: "node" }));
  await wait(800);
  assert.match(await page.locator(".wb-status").nth(1).innerText(), /1 selected/);
  await page.locator("role=radio[name=After]").click();
  await wait(100);
  await page.locator("role=radio[name=Before]").click();
  await wait(120);
  assert.ok(await page.locator(".wb-ghosts").isVisible());
  await wait(700);
  assert.ok(!(await page.locator(".wb-ghosts").isVisible()));
  await page.close();
});

await check("table: sort, filter, keys, selection both ways", async () => {
  const page = await visit("view=table&data=big&n=10000");
  await page.locator(".wb-th >> text=Time").click();
  await page.locator(".wb-search input").fill("kind=gemm time>20");
  await wait(300);
  assert.match(await page.locator(".wb-count").innerText(), /of 10.000 rows/);
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  await wait(200);
  assert.equal((await ids(page)).length, 1);
  await page.locator(".wb-search input").fill("");
  await wait(300);
  await page.evaluate(() => window.model.python("selection", { ids: ["layer_600_3"], origin: "python", kind: "layer" }));
  await wait(200);
  assert.match(await page.locator('.wb-tr[aria-selected=true]').innerText(), /norm_600_3/);
  assert.ok((await page.locator(".wb-tr").count()) < 60);
  await page.close();
});

await check("the report links its map and its table", async () => {
  const page = await visit("view=report");
  await wait(600);
  await page.locator(".wb-tr", { hasText: "fused multi-head attention" }).first().click();
  await wait(900);
  assert.match(await page.locator(".wb-details h3").innerText(), /Correlation/);
  assert.match(await page.locator(".wb-status").nth(1).innerText(), /1 selected/);
  await page.close();
});

await check("PNG and SVG files", async () => {
  const page = await visit("data=resnet&overlay=bytes");
  for (const kind of ["PNG", "SVG"]) {
    await page.locator('button[aria-label="Save as PNG or SVG"]').click();
    const [file] = await Promise.all([page.waitForEvent("download"), page.locator(`text=Download ${kind}`).click()]);
    await file.saveAs(`/tmp/graphview-shots/export.${kind.toLowerCase()}`);
  }
  await page.close();
});

await check("a view drawn before it is attached finds its size", async () => {
  const page = await visit("view=fusion&n=3&late=1");
  await wait(900);
  assert.equal(await page.locator("role=radio[name='Side by side']").getAttribute("aria-checked"), "true");
  const one = await visit("data=resnet&late=1");
  await wait(900);
  assert.ok(await one.locator("[role=tree]").isVisible());
  const inked = await one.evaluate(() => { const c = document.querySelectorAll(".wb-stage > canvas")[1]; const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) n++; return n; });
  assert.ok(inked > 2000, `${inked} pixels`);
  await one.screenshot({ path: "/tmp/graphview-shots/late.png" });
  await page.close();
  await one.close();
});

await check("a detached and re-attached output is drawn again", async () => {
  const page = await visit("data=resnet");
  await page.evaluate(() => { const el = document.getElementById("out"); window.parent_ = el.parentElement; el.remove(); window.el_ = el; });
  await wait(200);
  await page.evaluate(() => window.parent_.append(window.el_));
  await wait(300);
  const inked = await page.evaluate(() => { const c = document.querySelectorAll(".wb-stage > canvas")[1]; const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) if (d[i]) n++; return n; });
  assert.ok(inked > 2000, `${inked} pixels`);
  await page.close();
});

for (const [name, query] of [["2,016 layers, grouped", "data=big&n=2016"], ["2,016 layers, flat", "data=flat&n=2016"], ["10,000 layers, grouped", "data=big&n=10000"], ["10,000 layers, flat", "data=flat&n=10000"]]) {
  const times = [];
  for (let i = 0; i < 3; i++) {
    const page = await visit(query);
    times.push(Math.round(await page.evaluate(() => window.readyMs)));
    await page.close();
  }
  console.log(`time  ${name}: interactive after ${times.join(", ")} ms`);
}

{
  const page = await visit("data=big&n=1400");
  const t0 = Date.now();
  await page.locator('button[aria-label="Open everything"]').click();
  await page.waitForFunction(() => Number(document.querySelector("[data-ready]").dataset.ready) >= 2, null, { timeout: 60_000 });
  console.log(`time  1,400 cards opened at once: ${Date.now() - t0} ms, ${await status(page)}`);
  for (const zoom of ["fit", "close"]) {
    if (zoom === "fit") { await page.locator(".wb-stage").focus(); await page.keyboard.press("f"); await wait(800); }
    else { for (let i = 0; i < 12; i++) { await page.keyboard.press("+"); await wait(170); } }
    const box = await page.locator(".wb-stage").boundingBox();
    await page.mouse.move(box.x + 500, box.y + 300);
    await page.mouse.down();
    await page.evaluate(() => { window.frames_ = []; window.go_ = true; const tick = (t) => { window.frames_.push(t); if (window.go_) requestAnimationFrame(tick); }; requestAnimationFrame(tick); });
    const start = Date.now();
    for (let k = 0; Date.now() - start < 2500; k++) await page.mouse.move(box.x + 500 + 200 * Math.sin(k / 9), box.y + 300 + 150 * Math.cos(k / 7));
    const frames = await page.evaluate(() => { window.go_ = false; const f = window.frames_; const d = f.slice(1).map((t, i) => t - f[i]).sort((a, b) => a - b); return { fps: 1000 * d.length / (f.at(-1) - f[0]), p95: d[Math.floor(d.length * 0.95)] }; });
    await page.mouse.up();
    console.log(`time  panning 1,400 cards (${zoom}): ${frames.fps.toFixed(0)} frames/s, 95 % of frames within ${frames.p95.toFixed(0)} ms`);
    await page.screenshot({ path: `/tmp/graphview-shots/pan-${zoom}.png` });
  }
  await page.close();
}
await close();
server.close();
console.log(`${count} checks${process.exitCode ? ", with failures" : ""}`);
