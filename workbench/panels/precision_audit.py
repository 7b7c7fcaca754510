"""The audit of one variant in the Precision panel: what precision its layers really have, and what that costs."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.core.errors import ConfigError
from workbench.core.events import Selection
from workbench.core.units import bytes_text
from workbench.experiments.whatif import QUANTIZED
from workbench.panels.parts import wide
from workbench.panels.precision_rows import loss_rows
from workbench.widgets import RowsView

if TYPE_CHECKING:
    from collections.abc import Callable

    from workbench.experiments.whatif import Variant, WhatIf
    from workbench.panels.base import Panel
    from workbench.workspace import Workspace


class AuditView(w.VBox):  # type: ignore[misc]
    """Findings about a variant; each selects its layers or nodes.

    Args:
        panel: Where it is shown.
        below: Shown below the findings.
    """

    children: Any

    def __init__(self, panel: Panel, below: w.Widget) -> None:
        self._session, self._guard = panel.session, panel.guard  # not the panel: `close_tree` follows widgets
        self._below = below
        self._variant: Variant | None = None
        self._parts: dict[str, tuple[str, ...]] = {}
        self.losses = RowsView(on_pick=panel.guard(self._pick_loss), on_error=panel.show_error, height=260)
        super().__init__(layout=wide())

    def show(self, all_of: WhatIf | None, variant: Variant | None) -> None:
        """Show the audit of `variant`, one of `all_of`; nothing if it has none."""
        self._variant = variant
        if all_of is None or variant is None or variant.audit is None or variant.engine is None:
            self.children = []
            return
        found, engine = variant.audit, variant.engine
        asked = f"Requested {found.asked}. Got " + ", ".join(
            f"{n} {kind} in {dtype}" for kind, counts in found.products.items() for dtype, n in counts.items()
        )
        parts: list[w.Widget] = [
            w.HTML(
                f"<h4 class='wbp-part'>What the layers got: {escape(variant.name)}</h4><span class='wbp-quiet'>{escape(asked)}</span>"
            )
        ]
        if not found.findings:
            parts.append(w.HTML(f"<p>{escape(found.words)} The audit found nothing else.</p>"))
        parts += self._left(variant)
        for finding in found.findings:
            link = select_link(
                self._session,
                self._guard,
                f"{bytes_text(finding.bytes)}  {finding.text}",
                "layer",
                finding.layers,
                engine.key,
            )
            parts += [link, w.HTML(f"<span class='wbp-quiet' style='padding-left:12px'>{escape(finding.hint)}</span>")]
        try:
            losses = all_of.losses(variant.name) if variant.to in QUANTIZED else ()
        except ConfigError:
            losses = ()  # there is no FP16 variant to compare with
        if losses:
            # Parts without a counterpart in FP16 have no node in common, so each part is named by its index.
            self._parts = {str(i): change.layers for i, change in enumerate(losses)}
            total = sum(change.more for change in losses)
            parts.append(
                w.HTML(
                    f"<h4 class='wbp-part'>Where it moves more bytes than FP16: {bytes_text(total)}</h4>"
                    "<span class='wbp-quiet'>Click a row to select its kernels in every view.</span>"
                )
            )
            self.losses.show_rows(loss_rows(losses))
            parts.append(self.losses)
        parts.append(self._below)
        self.children = parts

    def _left(self, variant: Variant) -> list[w.Widget]:
        """What the scheme left in higher precision, by reason; each line selects its nodes."""
        model = self._session.models.get(variant.model)
        groups: dict[str, list[str]] = {}
        for node, reason in (model.origin.get("left", {}) if model is not None else {}).items():
            groups.setdefault(reason, []).append(node)
        out: list[w.Widget] = []
        for reason, nodes in groups.items():
            names = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
            text = f"{len(nodes)} node{'s' if len(nodes) != 1 else ''} left in higher precision, {reason}: {names}"
            key = variant.engine.key if variant.engine is not None else None
            out.append(select_link(self._session, self._guard, text, "node", tuple(nodes), key))
        return out

    def _pick_loss(self, ids: tuple[str, ...]) -> None:
        variant = self._variant
        layers = [layer for i in ids for layer in self._parts.get(i, ())]
        if variant is not None and variant.engine is not None and layers:
            self._session.engines.current = variant.engine
            self._session.select(Selection("layer", tuple(layers)))


def select_link(
    session: Workspace, guard: Callable[..., Any], text: str, kind: str, ids: tuple[str, ...], engine: str | None = None
) -> w.Button:
    """A link: a click selects what its text is about."""
    link = w.Button(description=text, tooltip="Select in every view", layout=w.Layout(width="auto"))
    link.add_class("wbp-link")

    def chosen(_button: Any) -> None:
        if engine is not None:
            session.engines.current = engine
        session.select(Selection("node" if kind == "node" else "layer", ids))

    link.on_click(guard(chosen))
    return link
