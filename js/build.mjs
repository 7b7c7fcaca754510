// Bundles src/ into one ES module inside the Python package, with the notices of what it contains.
import { build } from "esbuild";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "workbench", "widgets", "static");
const common = {
  bundle: true,
  minify: true,
  target: "es2022",
  // Notebooks may have an AMD loader on the page; libraries that look for one would register there.
  define: { "define.amd": "false" },
  legalComments: "none",
  logLevel: "warning",
};

const worker = await build({ ...common, entryPoints: [join(here, "src/map/layout_worker.ts")], format: "iife", write: false });
const workerText = worker.outputFiles[0].text;

/** The worker travels as text inside the bundle: a Blob cannot import relative files. */
const workerAsText = {
  name: "layout-worker",
  setup(plugin) {
    plugin.onResolve({ filter: /^virtual:layout-worker$/ }, (args) => ({ path: args.path, namespace: "virtual" }));
    plugin.onLoad({ filter: /.*/, namespace: "virtual" }, () => ({ contents: workerText, loader: "text" }));
  },
};

await mkdir(out, { recursive: true });
const result = await build({
  ...common,
  entryPoints: [join(here, "src/main.ts")],
  outfile: join(out, "workbench.js"),
  format: "esm",
  plugins: [workerAsText],
  metafile: true,
});

const packages = new Set(Object.keys(result.metafile.inputs).concat("node_modules/@dagrejs/dagre/x", "node_modules/@dagrejs/graphlib/x")
  .map((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1]).filter(Boolean));
const notices = ["workbench.js contains the following packages."];
for (const name of [...packages].sort()) {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  const text = await readFile(join(folder, "LICENSE"), "utf8");
  notices.push(`${"-".repeat(78)}\n${name} ${version} (${license})\n\n${text.trim()}`);
}
await writeFile(join(out, "THIRD_PARTY_NOTICES.txt"), `${notices.join("\n\n")}\n`);

const size = (await readFile(join(out, "workbench.js"))).length;
console.log(`workbench.js ${(size / 1024).toFixed(0)} KB`);
if (size > 700 * 1024) {
  console.error("The bundle is larger than 700 KB.");
  process.exit(1);
}
