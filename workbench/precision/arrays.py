"""Read arrays and images from untrusted files: headers are checked before memory is allocated."""

from __future__ import annotations

import math
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from workbench.core import limits
from workbench.core.errors import CalibrationError, LimitError, first_lines

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

KINDS = "biufV"
"""Accepted kinds of NumPy data types: booleans, numbers, and types unknown to NumPy (bfloat16)."""

SMALL = 1 << 26
"""Arrays in an archive up to this size (bytes) may have any compression ratio."""

_HINT = "Write it with numpy.save or numpy.savez."


def read_arrays(path: str | Path) -> np.ndarray | dict[str, np.ndarray]:
    """The array of an ``.npy`` file, or those of an ``.npz`` file by name.

    Raises:
        CalibrationError: it can't be read, contains anything other than numbers, or is damaged.
        LimitError: it is larger than ``SAMPLE_BYTES``, or unpacks to more than ``ARCHIVE_RATIO`` times its size.
    """
    place = Path(path)
    try:
        status = place.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _refused(place, "it is not a regular file")
        limits.check("SAMPLE_BYTES", status.st_size, f"{place}")
        with place.open("rb") as file:
            begin = file.read(6)
            file.seek(0)
            if begin.startswith(b"PK"):
                return _archive(place, file)
            return _array(place, file, status.st_size)
    except FileNotFoundError:
        raise CalibrationError(f"There is no file {place}.", code="file-missing") from None
    except (CalibrationError, LimitError):
        raise
    except Exception as error:  # noqa: BLE001 - NumPy and zipfile raise many exception types for damaged files
        raise _refused(place, first_lines(error)) from None


def _array(place: Path, file: BinaryIO, size: int) -> np.ndarray:
    import numpy as np

    _check_header(place, file, size)
    file.seek(0)
    made: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    return made


def _check_header(place: Path, file: BinaryIO, size: int) -> None:
    """Refuse an array whose data can't fit in the file, before memory is allocated.

    Args:
        place: For messages.
        file: Positioned at the array's header; afterwards at its data.
        size: Bytes of the array in the file, including its header.
    """
    import numpy as np

    form = np.lib.format
    begin = file.read(form.MAGIC_LEN)
    read = {b"\x01\x00": form.read_array_header_1_0, b"\x02\x00": form.read_array_header_2_0}.get(begin[6:])
    if not begin.startswith(form.MAGIC_PREFIX) or read is None:
        raise _refused(place, "it holds Python objects, or is of another kind")
    shape, _, dtype = read(file)
    if dtype.hasobject or dtype.kind not in KINDS or dtype.names:
        raise _refused(place, f"it holds {'Python objects' if dtype.hasobject else dtype}, and no numbers")
    if any(not isinstance(d, int) or d < 0 for d in shape):
        raise _refused(place, f"its header gives it the shape {shape!r:.80}")
    need = math.prod(shape) * dtype.itemsize
    limits.check("SAMPLE_BYTES", need, f"{place}")
    if need > size - file.tell():
        raise _refused(place, f"it ends early: {need} bytes are needed for {list(shape)} of {dtype}")


def _archive(place: Path, file: BinaryIO) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        limits.check("ARCHIVE_ENTRIES", len(entries), f"{place}")
        limits.check("SAMPLE_BYTES", sum(entry.file_size for entry in entries), f"{place}")
        for entry in entries:
            if entry.file_size > SMALL:
                limits.check("ARCHIVE_RATIO", entry.file_size / max(entry.compress_size, 1), f"{place}")
            with archive.open(entry) as packed:
                _check_header(place, packed, entry.file_size)  # type: ignore[arg-type]
            with archive.open(entry) as packed:
                found[entry.filename.removesuffix(".npy")] = _read(packed)
    return found


def _read(packed: Any) -> np.ndarray:
    import numpy as np

    made: np.ndarray = np.lib.format.read_array(packed, allow_pickle=False)
    return made


def read_image(path: Path, mode: str, size: tuple[int, int]) -> Image:
    """An image in `mode` (``RGB``, ``L``), resized to `size` (width, height).

    Raises:
        CalibrationError: it is not an image, or is damaged.
        LimitError: it has more than ``IMAGE_PIXELS``.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            limits.check("IMAGE_PIXELS", picture.width * picture.height, f"{path}")
            return picture.convert(mode).resize(size)
    except LimitError:
        raise
    except Exception as error:  # noqa: BLE001 - Pillow raises many exception types for damaged files
        raise CalibrationError(
            f"{path} can't be read as an image: {first_lines(error)}.",
            hint="Repair it, or remove it from the folder.",
            code="data-unreadable",
        ) from None


def _refused(place: Path, why: str) -> CalibrationError:
    return CalibrationError(f"{place} can't be read as NumPy data: {why}.", hint=_HINT, code="data-unreadable")
