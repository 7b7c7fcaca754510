"""Close widgets together with everything that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ipywidgets as w


def close_tree(widget: w.Widget) -> None:
    """Close a widget, what it shows, what it keeps for later, and their layouts and styles.

    ipywidgets closes only the widget; the front end and the kernel would keep all the others.
    """
    _close(_tree(widget))


def put(place: w.Box, children: Sequence[w.Widget], owner: w.Widget) -> None:
    """Show other `children` in `place`, and close what it showed before that `owner` no longer reaches."""
    before = _tree(list(place.children))
    place.children = list(children)
    kept = {id(item) for item in _tree(owner)}
    _close([item for item in before if id(item) not in kept])


def _tree(start: Any) -> list[w.Widget]:
    """All widgets that can be reached from `start`: children, layouts, styles, and fields that are not shown now."""
    found: dict[int, w.Widget] = {}
    queue: list[Any] = [start]
    while queue:
        item = queue.pop()
        if isinstance(item, list | tuple | set):
            queue.extend(item)
        elif isinstance(item, dict):
            queue.extend(item.values())
        elif isinstance(item, w.Widget) and id(item) not in found:
            found[id(item)] = item
            queue.extend([getattr(item, "children", ()), getattr(item, "layout", None), getattr(item, "style", None)])
            queue.extend(value for name, value in vars(item).items() if not name.startswith("_trait_"))
        elif not isinstance(item, w.Widget):
            queue.extend(getattr(item, "widgets", ()) if type(item).__module__.startswith("workbench.panels") else ())
    return list(found.values())


def _close(widgets: Sequence[w.Widget]) -> None:
    for item in widgets:
        item.close()
