"""What the result of a factory depends on, so that a model is exported again exactly if something changed.

The process that ran the factory records the modules that it imported (by content, unless they are installed packages),
the files that it read, and weights next to them. It does not see environment variables or data from the network.
"""

from __future__ import annotations

import hashlib
import os
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".npy", ".h5", ".gguf", ".pkl", ".json", ".yaml")
"""Files in the folders of a factory that native code may read unseen by Python, as safetensors does."""

_MOST = 2000
"""Maximum number of files of a folder that are examined."""

_watches: list[set[str]] = []
_hooked: list[bool] = []


@contextmanager
def reading() -> Iterator[set[str]]:
    """Collects the names of the files that this process opens for reading within the context."""
    found: set[str] = set()
    if not _hooked:  # an audit hook can't be removed
        _hooked.append(True)
        sys.addaudithook(_heard)
    _watches.append(found)
    try:
        yield found
    finally:
        _watches.remove(found)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watches:
        path, mode, flags = arguments
        reads = mode.startswith("r") if isinstance(mode, str) else not (int(flags or 0) & (os.O_WRONLY | os.O_RDWR))
        if reads and isinstance(path, str | bytes | os.PathLike):
            name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - called for every open
            for found in _watches:
                found.add(name)


def dependencies(opened: set[str], folder: str) -> dict[str, Any]:
    """What the result of a factory that ran in this process depends on.

    Args:
        opened: Files that it read, see `reading`.
        folder: The folder that it was called from.

    Returns:
        ``sources`` (file -> SHA-256), ``files`` (file -> size and time of the last change), ``folders`` (folder -> the
        same for weights in it), as JSON-able data.
    """
    installed = _installed()
    sources: dict[str, str] = {}
    files: dict[str, list[int] | None] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not Path(file).is_file() or file.startswith(_own()):
            continue
        if not file.startswith(installed):
            sources[file] = _sha256(file)
        elif "." not in name:
            files[file] = _stamp(file)  # another version has another modification time
    mapped = _mapped()
    data = {f for f in opened | mapped if _is_data(f, installed) and f not in sources}
    files |= {f: stamp for f in data if (stamp := _stamp(f)) is not None}
    folders = {folder, *(str(Path(f).parent) for f in (*sources, *data))}
    return {"sources": sources, "files": files, "folders": {f: _weights(f) for f in sorted(folders)}}


def unchanged(noted: Mapping[str, Any]) -> bool:
    """Whether nothing that `dependencies` recorded has changed."""
    try:
        return (
            all(_sha256(file) == sha256 for file, sha256 in noted["sources"].items())
            and all(_stamp(file) == stamp for file, stamp in noted["files"].items())
            and all(_weights(folder) == was for folder, was in noted["folders"].items())
        )
    except (OSError, KeyError, TypeError, AttributeError):  # removed, or recorded in another format
        return False


def _installed() -> tuple[str, ...]:
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {site.getusersitepackages()}
    return tuple(path + os.sep for path in paths if path)


def _own() -> str:
    return str(Path(__file__).parents[1]) + os.sep


def _is_data(file: str, installed: tuple[str, ...]) -> bool:
    system = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib", _own(), *installed)
    return not file.startswith(system) and not file.endswith((".py", ".pyc", ".so")) and Path(file).is_file()


def _mapped() -> set[str]:
    """Files that are mapped into this process's memory; empty if the system does not list them."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return set()
    return {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) == 6 and "/" in line}


def _sha256(file: str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _stamp(file: str) -> list[int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _weights(folder: str) -> dict[str, list[int] | None]:
    """Size and time of the weights in a folder."""
    found: dict[str, list[int] | None] = {}
    try:
        with os.scandir(folder) as entries:
            for i, entry in enumerate(entries):
                if i >= _MOST:
                    break
                if entry.name.endswith(_WEIGHTS) and entry.is_file():
                    found[entry.name] = _stamp(entry.path)
    except OSError:
        return {}
    return found
