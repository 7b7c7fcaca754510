"""One self-contained HTML file with the same map, tables and charts: no kernel, no network, no CDN."""

from __future__ import annotations

import base64
import gzip
import json
import time
from pathlib import Path

from workbench import __version__
from workbench.analysis.times import doubts, explain
from workbench.charts import svg
from workbench.core.store import output
from workbench.plan import Plan
from workbench.plan.columns import capital
from workbench.present import wire
from workbench.present.facts import plan_facts
from workbench.present.lens import Lens
from workbench.present.page import html
from workbench.present.wire_types import DetailsRecord, ReportPayload
from workbench.widgets.bundle import bundle

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src data: blob:; worker-src blob:">
<title>{title}</title>
<style>html,body{{margin:0;height:100%}} noscript{{display:block;padding:16px}}</style>
</head>
<body>
<div id="report"></div>
<noscript>{fallback}</noscript>
<script id="payload" type="text/plain">{payload}</script>
<script id="bundle" type="text/plain">{bundle}</script>
<script type="module">
const unpack = async (id) => {{
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}};
try {{
  const url = URL.createObjectURL(new Blob([await unpack("bundle")], {{ type: "text/javascript" }}));
  const {{ mountReport }} = await import(url);
  URL.revokeObjectURL(url);
  mountReport(document.getElementById("report"), JSON.parse(await unpack("payload")));
}} catch (error) {{
  document.getElementById("report").textContent = `This report could not be drawn: ${{error.message}}`;
}}
</script>
</body>
</html>
"""


def report(lens: Lens, path: str | Path, *, sources: bool = False) -> Path:
    """Write the report of one engine.

    Args:
        lens: What to report on; without its model only the plan is shown.
        path: The .html file to write.
        sources: Whether lines of files in the folders that ``WORKBENCH_SOURCES`` names go into it. What the model's own
            file holds, and what was kept when the workbench exported it, always does.

    Raises:
        StoreError: the file can't be written; what was there stays.
    """
    lens = lens if sources else lens.for_report()
    plan = lens.plan
    # Details hold the raw record, which the report's reader can also have as JSON; without it they are small.
    records = {f"layer:{layer.id}": _slim(wire.details(lens, "layer", layer.id)) for layer in wire.shown(plan)}
    tables = [wire.layer_table(lens)]
    if lens.graph is not None:
        records.update({f"node:{n.id}": _slim(wire.details(lens, "node", n.id)) for n in lens.graph.nodes})
        tables.append(wire.node_table(lens))
    name = str(plan.model["name"])
    payload: ReportPayload = {
        "title": name,
        "subtitle": _subtitle(plan),
        "facts": plan_facts(plan),
        "tables": tables,
        "details": records,
        "figures": [{"title": f["title"], "svg": f["svg"], "alt": f["alt"]} for f in svg.charts(plan)],
        "footer": [
            f"Made by TensorRT Workbench {__version__} on {time.strftime('%Y-%m-%d')}."
            + (f" Model SHA-256 {sha256[:16]}…." if (sha256 := plan.model["sha256"]) else ""),
            "Bytes and operations are computed from shapes and types; they are not measured.",
            *plan.problems,
            *[text for _, text in doubts(plan)],
            *[f"{capital(line)}." for line in explain(plan)],
            *([f"Its profile can't be shown: {lens.times_missing}"] if lens.times_missing else []),
            *([f"The model could not be opened: {lens.missing}"] if lens.graph is None else []),
        ],
    }
    if lens.graph is not None:
        payload["fusion"] = wire.fusion_data(lens)
    else:
        payload["graph"] = wire.plan_data(lens)
    text = _PAGE.format(
        title=svg.escape(f"{name} · TensorRT Workbench"),
        fallback=html(lens),
        payload=_packed(json.dumps(payload, separators=(",", ":"), allow_nan=False).encode()),
        bundle=_packed(bundle()),
    )
    with output(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")
    return Path(path)


def _subtitle(plan: Plan) -> str:
    device = (plan.facts.get("device") or {}).get("name") or plan.compiler.get("target")
    parts = [
        "compiled",
        f"for {device}" if device else "",
        f"by {plan.compiler['name']} {plan.compiler['version']}".strip(),
    ]
    # An engine that was read from files does not say what was asked for.
    asked = f", {plan.config.get('precision', 'fp32')}" if plan.config else ""
    return " ".join(part for part in parts if part) + asked


def _slim(record: DetailsRecord) -> DetailsRecord:
    return {**record, "sections": [s for s in record["sections"] if s["type"] != "raw"]}


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()
