// Serves the harness on 127.0.0.1; `node demo/serve.mjs` prints the address. Also used by the browser checks.
import { build } from "esbuild";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));

export async function serve(port = 0) {
  const harness = await build({ entryPoints: [join(here, "harness.ts")], bundle: true, format: "esm", write: false, target: "es2022" });
  const files = {
    "/": ["text/html", () => readFile(join(here, "index.html"))],
    "/harness.js": ["text/javascript", async () => harness.outputFiles[0].contents],
    "/workbench.js": ["text/javascript", () => readFile(join(here, "../../workbench/widgets/static/workbench.js"))],
  };
  const server = createServer(async (request, response) => {
    const found = files[new URL(request.url, "http://x").pathname];
    if (!found) { response.writeHead(404).end(); return; }
    response.writeHead(200, { "content-type": found[0] });
    response.end(await found[1]());
  });
  await new Promise((ready) => server.listen(port, "127.0.0.1", ready));
  return { url: `http://127.0.0.1:${server.address().port}/`, close: () => server.close() };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log((await serve(8899)).url);
