"""All panels as tabs. A panel is made when its tab is first opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ipywidgets as w

from workbench.panels import PANELS, panel

if TYPE_CHECKING:
    from workbench.workspace import Workspace


class App(w.Tab):  # type: ignore[misc]
    """The whole workbench."""

    def __init__(self, session: Workspace) -> None:
        self.session = session
        self._names = list(PANELS)
        super().__init__([w.VBox(layout=w.Layout(min_height="80px")) for _ in PANELS], layout=w.Layout(width="100%"))
        self.add_class("wbp-app")  # its tabs wrap where there is no room for all in one row
        for i, name in enumerate(self._names):
            self.set_title(i, name.capitalize())
        self.observe(self._opened, "selected_index")
        self.selected_index = self._names.index("fusions" if session.engines else "model")
        self._opened({"new": self.selected_index})

    def _opened(self, change: dict[str, Any]) -> None:
        index = change["new"]
        if index is not None and not self.children[index].children:
            self.children[index].children = [panel(self.session, self._names[index])]

    def close(self) -> None:
        """Close every panel."""
        for place in self.children:
            for child in place.children:
                child.close()
            place.layout.close()
            place.close()
        self.layout.close()
        super().close()
