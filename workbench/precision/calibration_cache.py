"""TensorRT 10's calibration cache: a line with the calibrator's name, then a scale for each tensor.

    TRT-101300-EntropyCalibration2
    x: 3c010a14

The number is the scale (the range's end over 127) as the bits of a float32, the highest byte first. Tensor
names are those of TensorRT's network, which for a parsed model are those of the ONNX file. The file does not record the
model that it was made from.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import limits
from workbench.core.documents import read_text
from workbench.core.errors import CalibrationError
from workbench.core.safe_text import whole as whole_text
from workbench.core.store import output

if TYPE_CHECKING:
    import pandas as pd

    from workbench.precision.calibration import Calibration

LEVELS = 127
"""Largest magnitude of INT8, symmetric about zero."""

SMALLEST, LARGEST = 2.0**-126, 3.4028234663852886e38 / LEVELS
"""Scales that float32 can represent at full precision, together with the end of their range."""

_HEAD = re.compile(r"TRT-[0-9]+-\w+")
_DIGITS = re.compile(r"[0-9a-fA-F]{8}")
_HINT = "Such a file begins with a line like TRT-101300-EntropyCalibration2."


@dataclass(frozen=True)
class TensorRTCache:
    """A calibration cache of TensorRT 10 or earlier.

    Attributes:
        head: Its first line: version and calibrator.
        scales: The step of INT8 for each tensor, by name.
    """

    head: str
    scales: Mapping[str, float] = field(repr=False)

    @staticmethod
    def is_one(path: str | Path) -> bool:
        """Whether a file begins like such a cache."""
        try:
            with Path(path).open("rb") as file:
                return _HEAD.match(file.readline(80).decode("ascii", "replace")) is not None
        except OSError:
            return False

    @staticmethod
    def parse(text: str, name: str = "The text") -> TensorRTCache:
        """Read what TensorRT wrote.

        Raises:
            CalibrationError: a line does not follow the format, gives an invalid INT8 scale, or repeats a tensor of
                another line.
            LimitError: it is too large.
        """
        limits.check("DOCUMENT_BYTES", len(text), name)
        lines = whole_text(text).split("\n")
        if not lines or not _HEAD.fullmatch(lines[0].strip()):
            raise CalibrationError(f"{name} is not a TensorRT calibration cache.", hint=_HINT)
        scales: dict[str, float] = {}
        for number, line in enumerate(lines[1:], 2):
            line = line.removesuffix("\r")  # noqa: PLW2901
            if not line.strip():
                continue
            tensor, colon, digits = line.rpartition(":")
            if not colon or not _DIGITS.fullmatch(digits.strip()):
                raise CalibrationError(
                    f"Line {number} of {name} is not of the form 'tensor: 3c010a14': {line[:200]!r}.",
                    code="calibration-cache",
                )
            (scale,) = struct.unpack(">f", bytes.fromhex(digits.strip()))
            about: dict[str, Any] = {"details": {"tensor": tensor}, "code": "calibration-scale"}
            # TensorRT writes 0 for a tensor that was always zero; `ranges` refuses it if it is needed.
            if not (SMALLEST <= scale <= LARGEST or (scale == 0 and digits.strip() == "0" * 8)):
                raise CalibrationError(
                    f"Line {number} of {name} gives {tensor} a scale of {scale}.",
                    hint="This scale is not valid for INT8. Calibrate again.",
                    **about,
                )
            if tensor in scales:
                raise CalibrationError(
                    f"Line {number} of {name} gives {tensor} a scale for the second time.",
                    hint="Two caches were concatenated, or the file is damaged. Calibrate again.",
                    **about,
                )
            scales[tensor] = scale
        if not scales:
            raise CalibrationError(f"{name} contains no tensors.")
        return TensorRTCache(lines[0].strip(), scales)

    @staticmethod
    def load(path: str | Path) -> TensorRTCache:
        """Read a file.

        Raises:
            CalibrationError: it is not such a cache.
        """
        try:
            text = read_text(path)
        except OSError as error:
            raise CalibrationError(f"{path} can't be read: {error}.", hint=_HINT, code="file-unreadable") from None
        return TensorRTCache.parse(text, str(path))

    @staticmethod
    def of(calibration: Calibration, method: str = "entropy", percentile: float = 99.99) -> TensorRTCache:
        """The ranges of a workbench calibration, in a form that TensorRT 10 reads."""
        names = {"entropy": "EntropyCalibration2", "minmax": "MinMaxCalibration", "percentile": "LegacyCalibration"}
        ranges = calibration.ranges(method, percentile)
        return TensorRTCache(f"TRT-100000-{names[method]}", {name: end / LEVELS for name, end in ranges.items()})

    def to_text(self) -> str:
        """The file's text."""
        lines = [f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in self.scales.items()]
        return "\n".join([self.head, *lines]) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the file."""
        with output(path, parents=True) as draft:
            draft.write_text(self.to_text())
        return Path(path)

    def ranges(self, wanted: Iterable[str] | None = None) -> dict[str, float]:
        """The magnitude at which each tensor's range ends.

        Args:
            wanted: Names of the required tensors; None for all tensors in the cache.

        Raises:
            CalibrationError: one of them is missing, or its scale is 0.
        """
        found = {name: scale * LEVELS for name, scale in self.scales.items()}
        if wanted is None:
            return found
        wanted = list(wanted)
        absent = [name for name in wanted if name not in found]
        if absent:
            other = "it was made from another model" if len(absent) == len(wanted) else "the network was changed"
            raise CalibrationError(
                f"The cache {self.head} has no range for {len(absent)} of {len(wanted)} tensors, the first is {absent[0]}: "
                f"{other}.",
                hint="Calibrate again with data; TensorRT uses the tensor names of the ONNX file that it parsed.",
            )
        dead = [name for name in wanted if found[name] == 0]
        if dead:
            raise CalibrationError(
                f"The cache {self.head} gives {dead[0]} a scale of 0: it was zero on all data that made the cache"
                + (f" (and {len(dead) - 1} more)." if len(dead) > 1 else "."),
                hint="Calibrate again with data that make it nonzero, or keep its node in higher precision (keep).",
                details={"tensor": dead[0], "tensors": dead[:20]},
                code="calibration-scale",
            )
        return {name: found[name] for name in wanted}

    def compare(self, other: Calibration | TensorRTCache, method: str = "entropy") -> pd.DataFrame:
        """The ranges of two caches side by side, the largest change first; see `Calibration.compare`."""
        from workbench.precision.calibration import side_by_side

        theirs = other.ranges() if isinstance(other, TensorRTCache) else other.ranges(method)
        return side_by_side(self.ranges(), theirs)

    def to_frame(self) -> pd.DataFrame:
        """One row per tensor: its scale and the end of its range."""
        import pandas as pd

        rows = [{"tensor": n, "scale": s, "range": s * LEVELS} for n, s in self.scales.items()]
        return pd.DataFrame(rows, columns=["tensor", "scale", "range"])
