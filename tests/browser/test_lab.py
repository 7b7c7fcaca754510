"""The workbench in a real JupyterLab: what the issue calls "must hold, in a real browser".

The tests share a server and a home, and build on each other's engines: they run in order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import Lab, until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

    from tests.support.browser import Watch

    Window = Callable[..., tuple[BrowserContext, Watch]]

TOUR = Path(__file__).parents[2] / "notebooks/00_tour.ipynb"
OPEN = "from workbench import Session\nsession = Session('tour')"


def test_build_with_progress_and_cancel(lab: Lab, context: Window, shots: Path) -> None:
    lab.write("build.ipynb", [OPEN, "session.panel('build')"])
    window, _ = context(1280, 1000)
    book = lab.open(window, "build.ipynb")
    book.run_all()
    panel = book.panel("Build")
    panel.button("Build").click()
    # The sample is exported first, then the compiler tells its phases.
    bars = panel.box.locator(".widget-hprogress")
    bars.first.wait_for(timeout=120_000)
    until(lambda: len(lab.workers()) == 1, what="a worker")
    book.page.screenshot(path=shots / "build-progress.png")
    # Not "Built in": the table of engines has a column of that name.
    panel.box.get_by_text("58 layers").wait_for(timeout=120_000)
    assert panel.box.locator("table.wbp-table tbody tr").count() == 1
    assert panel.button("Cancel").is_disabled()
    until(lambda: not lab.workers(), what="the end of the worker")

    # For every target at once, at another precision: that takes a while.
    panel.box.locator("select[multiple]").select_option(
        label=["sm75 (RTX 20)", "sm80 (A100)", "sm86 (RTX 30)", "sm89 (RTX 40)", "sm120 (RTX 50)"]
    )
    panel.button("fp16").click()
    panel.button("Build").click()
    until(lambda: lab.workers() and panel.button("Cancel").is_enabled(), what="a worker")
    bars.first.wait_for()
    panel.button("Cancel").click()
    panel.box.get_by_text("Canceled.").first.wait_for(timeout=10_000)
    until(lambda: not lab.workers(), 5, "the end of the cancelled worker")
    assert panel.box.locator(".wbp-error").count() == 0
    assert book.run("len(session.engines), session.engines.running") == "(1, [])"

    # The same again comes from the cache.
    panel = book.panel("Build")
    panel.box.locator("select[multiple]").select_option(label=["sm89 (RTX 40)"])
    panel.button("fp32").click()
    panel.button("Build").click()
    panel.box.get_by_text("Found in the cache").first.wait_for()
    panel.button("Show as code").click()
    assert "engine = session.build('resnet50', target='sm89')" in panel.box.locator(".wbp-code").inner_text()
    assert not book.errors()


def test_the_tour(lab: Lab, context: Window, shots: Path) -> None:
    lab.take(TOUR)
    window, _ = context(1280, 1000)
    book = lab.open(window, TOUR.name)
    book.run_all(300)
    assert not book.errors()
    book.show(5)
    fusions = book.panel("Fusions")
    after = fusions.view("after")

    # What grows above a map moves it: the pointer must still meet its cards.
    fusions.button("Show as code").click()
    # Select a kernel in the map, read it in a cell.
    # Everything was built meanwhile, and panels show the last; back to the first.
    assert book.run("session.engines.current = engine; session.selection = None") == ""
    book.show(5)
    after.click_a_card()
    until(lambda: "1 selected" in after.status, what="the selection")
    fusions.box.locator(".wb-details h3").first.wait_for()
    page = book.page
    page.screenshot(path=shots / "tour-fusions-light-1280.png")
    told = book.run("print(session.selection.kind, *session.selection.ids)")
    kind, chosen = told.split()
    assert kind == "layer"
    assert book.run(f"engine.plan.by_id[{chosen!r}].id") == repr(chosen)

    # Set it in a cell, see it in the map, the details and the table.
    wanted = book.run(
        "pools = [la for la in engine.plan.layers if la.kind == 'pooling']; session.selection = pools[0].id; print(pools[0].title)"
    ).strip()
    book.show(5)
    after.wait_status("1 selected")
    fusions.box.locator(".wb-details h3", has_text=wanted).first.wait_for()
    fusions.tab("Layers")
    table = fusions.view("Layers")
    table.wait_status("1 selected")
    assert table.box.locator("[role=row][aria-selected=true]").inner_text().startswith("2")

    # Filter, sort, and choose in the table.
    table.box.get_by_label("Filter rows").fill("kind=pooling")
    table.wait_status("1 of 58 rows")
    table.box.get_by_label("Filter rows").fill("nodes>2 conv")
    table.wait_status("16 of 58 rows")
    table.box.get_by_role("columnheader", name="Moves").click()
    table.box.locator("[role=row][data-at='0']").click()
    table.wait_status("1 selected")
    page.screenshot(path=shots / "tour-table-light-1280.png")
    assert "Conv" in book.run("engine.plan.layer(session.selection.ids[0]).title")

    # Color by something else.
    book.show(5)
    fusions.tab("Map")
    after.box.get_by_label("Color by").select_option(label="Bytes moved")
    after.box.locator(".wb-legend b", has_text="Bytes moved").wait_for()
    after.box.locator(".wb-legend .wb-ramp").wait_for()
    assert "MB" in after.box.locator(".wb-legend").first.inner_text()
    page.screenshot(path=shots / "tour-overlay-light-1280.png")

    # Dark: page and canvas.
    before = after.box.locator(".wb-stage").screenshot()
    book.theme("JupyterLab Dark")
    book.show(5)
    until(lambda: fusions.box.locator(".wb-root:not([data-theme=dark])").count() == 0, what="dark in every view")
    until(lambda: after.box.locator(".wb-stage").screenshot() != before, what="dark on the canvas")
    page.screenshot(path=shots / "tour-fusions-dark-1280.png")
    fusions.tab("Charts")
    page.wait_for_timeout(1500)
    page.screenshot(path=shots / "tour-charts-dark-1280.png")
    book.theme("JupyterLab Light")

    # All panels as tabs.
    book.show(18)
    app = page.locator(".jp-OutputArea .widget-tab").filter(has=page.locator(".lm-TabBar-tab", has_text="Streams")).last
    for name in ("Model", "Graph", "Fusions", "Build", "Memory", "Streams"):
        app.locator(".lm-TabBar-tab", has_text=name).first.click()
        app.locator(f"h3.wbp-title:text-is('{name}'):visible").wait_for()
        page.wait_for_timeout(1200)
        page.screenshot(path=shots / f"app-{name.lower()}-light-1280.png")
    assert page.locator(".wbp-error:visible").count() == 0
    assert (lab.folder / "resnet50.html").stat().st_size < 3_000_000


def test_two_notebooks_follow_each_other(lab: Lab, context: Window, shots: Path) -> None:
    lab.write(
        "one.ipynb",
        [
            OPEN,
            "session.engines.current = next(e for e in session.engines if e.model == 'resnet50')",
            "session.panel('fusions')",
        ],
    )
    lab.write(
        "two.ipynb", [OPEN, "session.selection = session.engines.current.plan.layers[2].id", "session.panel('fusions')"]
    )
    window, _ = context(1920, 1080)
    one = lab.open(window, "one.ipynb")
    one.run_all()
    two = lab.open(window, "two.ipynb")
    two.run_all()
    here, there = (book.panel("Fusions").view("after") for book in (one, two))
    # Set in the second: both show it.
    for view in (here, there):
        view.wait_status("1 selected")
    one.page.screenshot(path=shots / "fusions-light-1920.png")
    # Clicked in the first: the second and its Python follow.
    before = two.run("session.selection.ids")
    here.click_a_card()
    until(lambda: two.run("session.selection.ids") != before, what="the selection in the other notebook")
    assert one.run("session.selection.ids") == two.run("session.selection.ids")
    until(lambda: "selected" in there.status, what="the selection in the other map")
    assert not one.errors() + two.errors()
    two.theme("JupyterLab Dark")
    two.show(2)
    two.page.screenshot(path=shots / "fusions-dark-1920.png")


def test_netron_from_jupyters_own_origin(lab: Lab, context: Window, shots: Path) -> None:
    lab.write("graph.ipynb", [OPEN, "session.add('attention')", "session.panel('graph')"])
    window, _ = context(1280, 1000)
    asked: list[str] = []
    window.on("request", lambda r: asked.append(r.url))
    book = lab.open(window, "graph.ipynb")
    book.run_all()
    panel = book.panel("Graph")
    panel.view("graph").click_a_card()
    book.page.screenshot(path=shots / "graph-light-1280.png")
    panel.tab("Netron")
    frame = panel.box.frame_locator("iframe")
    frame.locator("#canvas .node-item, #target .node, svg .node").first.wait_for()
    assert frame.get_by_text("MatMul", exact=True).count()
    book.page.wait_for_timeout(800)
    book.page.screenshot(path=shots / "netron-light-1280.png")
    assert any(f"{lab.url}/workbench/netron/tour/attention/data/" in url for url in asked)
    # Without the token there is nothing to be had.
    stranger, watch = context()
    watch.ignored.append("403")
    page = stranger.new_page()
    page.goto(f"{lab.url}/workbench/netron/tour/attention/data/attention.onnx")
    assert "/login" in page.url


def test_what_goes_wrong_is_said_in_the_panel(lab: Lab, context: Window, shots: Path) -> None:
    bad = (
        "from onnx import helper as h, TensorProto as T, save\n"
        "def graph(op, name='<img src=x onerror=alert(1)><script>alert(2)</script>'):\n"
        "    x, y = (h.make_tensor_value_info(n, T.FLOAT, [4, 4]) for n in 'xy')\n"
        "    m = h.make_model(h.make_graph([h.make_node(op, ['x'], ['y'], name=name)], 'g', [x], [y]),"
        " opset_imports=[h.make_opsetid('', 17)], ir_version=9)\n"
        "    save(m, op + '.onnx'); return session.add(op + '.onnx', name=op.lower())\n"
    )
    lab.write("bad.ipynb", [
        OPEN.replace("tour", "bad"), bad + "graph('Relu'); graph('Det')\nsession.build('relu', compiler='fake')",
        "session.panel('fusions')", "session.panel('build')",
    ])  # fmt: skip
    window, _ = context(1280, 1400)
    alerts: list[str] = []
    window.on("dialog", lambda d: (alerts.append(d.message), d.dismiss()))
    book = lab.open(window, "bad.ipynb")
    book.run_all()
    assert not book.errors()
    fusions = book.panel("Fusions")
    after = fusions.view("after")
    after.click_a_card()
    fusions.box.locator(".wb-details", has_text="<script>").first.wait_for()
    fusions.tab("Layers")
    fusions.view("Layers").box.locator("[role=gridcell]", has_text="onerror").first.wait_for()
    # A selection that names nothing.
    book.run("session.selection = 'no such layer'")
    book.show(2)
    fusions.view("Layers").wait_status("1 row")
    fusions.tab("Map")
    fusions.box.locator(".wb-details", has_text="There is no").first.wait_for()
    book.page.screenshot(path=shots / "bad-selection-light-1280.png")
    # A build that the compiler refuses.
    book.show(3)
    build = book.panel("Build")
    build.box.locator("input[placeholder^='a model']").fill("det")
    build.box.locator("input[placeholder^='a model']").press("Enter")
    build.button("Build").click()
    build.box.locator(".wbp-error").wait_for(timeout=90_000)
    assert "Det" in build.box.locator(".wbp-error").inner_text()
    assert build.button("Build").is_enabled()
    book.page.screenshot(path=shots / "bad-build-light-1280.png")
    # A kernel that ends while a compiler works takes the compiler with it.
    book.run("running = session.engines.start('relu', compiler='fake', flags=('hang',))")
    until(lab.workers, what="a worker")
    book.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.restartKernel()")
    until(lambda: not lab.workers(), what="the end of the worker")
    assert not alerts


def test_a_model_of_8000_nodes(lab: Lab, context: Window, shots: Path) -> None:
    """Flat, without a module to group by: the worst there is."""
    big = (
        "from onnx import helper as h, TensorProto as T, save\n"
        "x, y = (h.make_tensor_value_info(n, T.FLOAT, [4]) for n in ('t0', 't8000'))\n"
        "nodes = [h.make_node('Sigmoid', [f't{i}'], [f't{i + 1}'], name=f'n{i}') for i in range(8000)]\n"
        "save(h.make_model(h.make_graph(nodes, 'g', [x], [y]), opset_imports=[h.make_opsetid('', 17)], ir_version=9), 'big.onnx')\n"
        "session.add('big.onnx')"
    )
    lab.write("big.ipynb", [OPEN.replace("tour", "big"), big, "session.panel('model')", "session.panel('graph')"])
    window, _ = context(1280, 1000)
    book = lab.open(window, "big.ipynb")
    book.run_all()
    assert not book.errors()
    model = book.panel("Model")
    model.box.locator(".wb-count", has_text="8\u2009000 rows").wait_for()
    model.box.get_by_label("Filter rows").fill("n7999")
    model.box.locator(".wb-count", has_text="1 of 8\u2009000 rows").wait_for()
    book.show(3)
    panel = book.panel("Graph")
    view = panel.view("graph")
    view.box.locator(".wb-cy canvas").first.wait_for()
    book.page.screenshot(path=shots / "graph-8000-light-1280.png")
    book.run("session.selection = 'n7777'")
    book.show(3)
    view.wait_status("1 selected")
    panel.box.locator(".wb-details h3", has_text="n7777").first.wait_for()
    book.page.wait_for_timeout(1500)
    book.page.screenshot(path=shots / "graph-8000-selected-light-1280.png")
    assert panel.box.locator(".wbp-error").count() == 0
    assert not book.errors()


@pytest.mark.parametrize("width", [1280, 1920])
def test_pictures_of_every_panel(lab: Lab, context: Window, shots: Path, width: int) -> None:
    """Drawn in light and dark for people to look at; nothing in sight may be wider than its place."""
    panels = ("model", "graph", "fusions", "build", "memory", "streams")
    lab.write("panels.ipynb", [OPEN, *(f"session.panel('{name}')" for name in panels)])
    window, _ = context(width, 1000)
    book = lab.open(window, "panels.ipynb")
    book.run("session.engines.current = next(e for e in session.engines if e.model == 'resnet50')")
    book.run_all()
    for theme in ("Light", "Dark"):
        book.theme(f"JupyterLab {theme}")
        for i, name in enumerate(panels):
            book.show(1 + i)
            panel = book.panel(name.capitalize())
            book.page.wait_for_timeout(1500)
            book.page.screenshot(path=shots / f"panel-{name}-{theme.lower()}-{width}.png")
            over = panel.box.evaluate("e => e.scrollWidth - e.clientWidth")
            assert over <= 4, f"{name} is {over} px wider than its place"  # the margin of ipywidgets' tabs
    assert not book.errors()
