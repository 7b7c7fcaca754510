"""Arrays that two processes share: anonymous memory that the other process maps through /proc. Linux only.

The memory has no name in a file system, so nothing is left behind, however either process ends.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from workbench.core.errors import ConfigError

_ALIGN = 256


class Item(TypedDict):
    """The position of one array in shared memory."""

    name: str
    dtype: str
    shape: list[int]
    offset: int


class Place(TypedDict):
    """How the other process finds the shared memory."""

    path: str
    size: int
    items: list[Item]


class SentArrays:
    """Shared memory from which another process reads arrays. It grows when needed and is reused for the next arrays."""

    def __init__(self) -> None:
        self._file = -1
        self._map: mmap.mmap | None = None
        self._free: weakref.finalize[..., SentArrays] | None = None

    def put(self, arrays: Mapping[str, Any]) -> Place:
        """Copy NumPy arrays into the memory, over the previous ones. bfloat16 is the type of ml_dtypes.

        Raises:
            ConfigError: an array holds objects, text or complex numbers.
        """
        items: list[Item] = []
        offset = 0
        for name, array in arrays.items():
            dtype = np.dtype(array.dtype)
            if dtype.kind not in "biuf" and dtype.name != "bfloat16":
                raise ConfigError(f"{name} is an array of {dtype}; an engine takes numbers.",
                                  hint="Convert it, for example with x.astype('float32').")  # fmt: skip
            items.append({"name": name, "dtype": dtype.name, "shape": list(array.shape), "offset": offset})
            offset += -(-array.nbytes // _ALIGN) * _ALIGN
        place = self._room(offset)
        for item, array in zip(items, arrays.values(), strict=True):
            _view(place, item)[...] = array
        return {"path": f"/proc/{os.getpid()}/fd/{self._file}", "size": len(place), "items": items}

    def close(self) -> None:
        """Free the memory."""
        if self._free is not None:
            self._free()
        self._file, self._map, self._free = -1, None, None

    def _room(self, size: int) -> mmap.mmap:
        if self._map is None or len(self._map) < size:
            self.close()
            self._file = os.memfd_create("workbench", os.MFD_CLOEXEC)
            self._free = weakref.finalize(self, os.close, self._file)  # also if `close` is never called
            # Allocate now: if memory ran out later, the process would end without a message.
            os.posix_fallocate(self._file, 0, max(size, mmap.PAGESIZE))
            self._map = mmap.mmap(self._file, max(size, mmap.PAGESIZE))
        return self._map


class ReceivedArrays:
    """The `SentArrays` of another process, mapped into this one."""

    def __init__(self) -> None:
        self._known: tuple[str, int] | None = None
        self._map: mmap.mmap | None = None

    def get(self, place: Place) -> dict[str, Any]:
        """The arrays, in place: valid until the other process puts the next ones."""
        key = (place["path"], place["size"])
        if self._map is None or key != self._known:
            file = os.open(place["path"], os.O_RDWR)
            try:
                self._map, self._known = mmap.mmap(file, place["size"]), key
            finally:
                os.close(file)
        return {item["name"]: _view(self._map, item) for item in place["items"]}


def _view(place: mmap.mmap, item: Item) -> Any:
    dtype: Any = item["dtype"]
    if dtype == "bfloat16":
        import ml_dtypes

        dtype = ml_dtypes.bfloat16
    count = int(np.prod(item["shape"], dtype=np.int64))
    return np.frombuffer(place, dtype, count, item["offset"]).reshape(item["shape"])
