// Pictures of every view, light and dark, to look at: node demo/shots.mjs [folder] [name filter]
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { open } from "./browser.mjs";
import { serve } from "./serve.mjs";

const folder = process.argv[2] ?? "/tmp/graphview-shots";
const only = process.argv[3] ?? "";
await mkdir(folder, { recursive: true });
const wait = (ms) => new Promise((r) => setTimeout(r, ms));

const SHOTS = [
  { name: "resnet", query: "view=graph&data=resnet" },
  { name: "resnet-open", query: "view=graph&data=resnet&overlay=time&open=layer1,layer1/layer1.0,stem" },
  { name: "resnet-lr", query: "view=graph&data=resnet&dir=LR&overlay=error&open=layer1,layer2" },
  { name: "plan-details", query: "view=graph&data=plan&n=3&details=1&overlay=bytes&open=encoder,encoder/layer.0,encoder/layer.1", select: ["sm80_xmma_gemm_f16_qkv_0"] },
  { name: "onnx", query: "view=graph&data=onnx&n=3&open=encoder,encoder/layer.0,encoder/layer.0/attention,encoder/layer.0/attention/self,encoder/layer.0/mlp,encoder/layer.0/attention/output" },
  { name: "fusion", query: "view=fusion&n=3&open=encoder,encoder/layer.0,encoder/layer.1", select: ["sm80_xmma_gemm_f16_qkv_0"] },
  { name: "fusion-details", query: "view=fusion&n=3&details=1&open=encoder,encoder/layer.0,encoder/layer.1", select: ["_gemm_mha_v2_0"] },
  { name: "table", query: "view=table&data=big&n=10000", select: ["layer_3_4"] },
  { name: "report", query: "view=report" },
  { name: "flat10k", query: "view=graph&data=flat&n=10000" },
];

const server = await serve();
const { context, close } = await open();
for (const theme of ["light", "dark"]) {
  for (const width of [1280, 1920]) {
    for (const shot of SHOTS.filter((s) => s.name.includes(only))) {
      const page = await context.newPage();
      page.on("console", (m) => { if (["error", "warning"].includes(m.type())) console.log(shot.name, m.type(), m.text()); });
      page.on("pageerror", (e) => console.log(shot.name, "ERROR", e.message));
      await page.setViewportSize({ width, height: shot.name === "report" ? 1300 : 760 });
      await page.goto(`${server.url}?${shot.query}&theme=${theme}`);
      await wait(900);
      if (shot.select) {
        await page.evaluate((ids) => window.model.python("selection", { ids, origin: "python", kind: "layer" }), shot.select);
        await wait(900);
      }
      await page.screenshot({ path: join(folder, `${shot.name}-${theme}-${width}.png`) });
      await page.close();
    }
  }
}
await close();
server.close();
