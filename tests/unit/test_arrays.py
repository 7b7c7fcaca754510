"""Arrays and images of strangers: whatever the bytes, the answer is the data or one of our errors, and no memory is taken."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from workbench.core.errors import CalibrationError, LimitError
from workbench.precision.arrays import read_arrays, read_image
from workbench.precision.data import gather
from workbench.precision.inputs import Input
from workbench.precision.samples import read_labels

pytestmark = pytest.mark.tiny
DATA = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


def npy(header: str, data: bytes = b"\0" * 64, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1")
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", len(text))
    return b"\x93NUMPY" + version + size + text + data


def header(shape: str = "(2, 3)", descr: str = "'<f4'", fortran: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    for dtype in ("float32", "float16", "float64", "int8", "uint8", "int64", "bool"):
        for order in ("C", "F"):
            np.save(tmp_path / "a.npy", np.asarray(DATA.astype(dtype), order=order))
            assert (read_arrays(tmp_path / "a.npy") == DATA.astype(dtype)).all()
    np.savez(tmp_path / "a.npz", x=DATA, y=np.float32(3))
    np.savez_compressed(tmp_path / "b.npz", x=DATA, y=np.float32(3))
    for name in ("a.npz", "b.npz"):
        found = read_arrays(tmp_path / name)
        assert isinstance(found, dict)
        assert (found["x"] == DATA).all()
        assert found["y"] == 3


BAD = {
    "empty": b"", "text": b"hello", "pickle": b"\x80\x04K\x01.", "magic alone": b"\x93NUMPY", "no header": b"\x93NUMPY\x01\x00",
    "version 9": npy(header(), version=b"\x09\x00"), "shape of 2**60": npy(header("(1152921504606846976,)")),
    "shape of 2**40": npy(header("(2**40,)")), "negative": npy(header("(-1,)")), "true": npy(header("(True,)", "'<f4'"), b""),
    "floats": npy(header("(2.0, 3)")), "text as shape": npy(header("'ab'")), "no tuple": npy(header("6")),
    "nested": npy("(" * 5000), "minus": npy("-" * 9000 + "1"), "objects": npy(header(descr="'|O'")), "structure": npy(header(descr="[('a', '<f4')]")),
    "strings": npy(header(descr="'<U4'")), "unknown type": npy(header(descr="'<q9'")), "dates": npy(header(descr="'<M8[s]'")),
    "no type": npy(header(descr="None")), "fortran": npy(header(fortran="7")), "keys": npy("{'a': 1}\n"), "short": npy(header("(100, 100)")),
    "old long": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), 'x\n"), "null": npy("\0" * 50),
    "header of 4 GB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100, "400 digits": npy(header("(" + "9" * 400 + ",)")),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_headers_that_can_not_be_are_refused(tmp_path: Path, what: str) -> None:
    file = tmp_path / "a.npy"
    file.write_bytes(BAD[what])
    with pytest.raises((CalibrationError, LimitError)) as caught:
        read_arrays(file)
    assert caught.value.code in {"data-unreadable", "limit-sample-bytes"}
    assert str(file) in caught.value.message
    inside = tmp_path / "a.npz"
    with zipfile.ZipFile(inside, "w") as archive:
        archive.writestr("x.npy", BAD[what])
    with pytest.raises((CalibrationError, LimitError)):
        read_arrays(inside)
    with pytest.raises((CalibrationError, LimitError)):
        read_labels(file)
    with pytest.raises((CalibrationError, LimitError)):
        gather(tmp_path, [Input("x", ("n", 3), "float32")], tmp_path / "out")


@pytest.mark.parametrize("size", [1 << 16, 1 << 27])
def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path: Path, size: int) -> None:
    file = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as out,
    ):
        out.write(npy(header(f"({size},)", "'|u1'"), b""))
        for _ in range(size >> 16):
            out.write(b"\0" * (1 << 16))
    if size == 1 << 16:  # small data of zeros are no bomb
        assert isinstance(read_arrays(file), dict)
        return
    assert file.stat().st_size < 1 << 20
    with pytest.raises(LimitError) as caught:
        read_arrays(file)
    assert caught.value.code == "limit-archive-ratio"


def test_sizes_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", DATA)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(100_000))
    monkeypatch.setenv("WORKBENCH_LIMIT_SAMPLE_BYTES", "100")
    for name in ("a.npy", "a.npz"):
        with pytest.raises(LimitError) as caught:
            read_arrays(tmp_path / name)
        assert caught.value.code == "limit-sample-bytes"


def test_archives_that_are_damaged_or_locked_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=DATA, y=DATA)
    whole = (tmp_path / "a.npz").read_bytes()
    file = tmp_path / "b.npz"
    for place in range(0, len(whole), 7):
        for change in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x81]) + whole[place + 1 :]):
            file.write_bytes(change)
            try:
                read_arrays(file)
            except (CalibrationError, LimitError) as error:
                assert error.code in {"data-unreadable", "limit-sample-bytes", "limit-archive-ratio"}  # noqa: PT017


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    os.mkfifo(tmp_path / "b.png")
    with pytest.raises(CalibrationError, match=r"neither .npy"):
        gather(tmp_path, [Input("x", ("n", 3), "float32")], tmp_path / "out")
    for place in (tmp_path / "a.npy", "/dev/zero"):
        with pytest.raises(CalibrationError, match="not a regular file"):
            read_arrays(place)
    with pytest.raises(CalibrationError):
        read_arrays(tmp_path)


def png(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and is not."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_images_are_read_refused_or_too_large(tmp_path: Path) -> None:
    from PIL import Image

    good = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(good, "PNG")
    file = tmp_path / "a.png"
    file.write_bytes(good.getvalue())
    assert read_image(file, "RGB", (4, 4)).size == (4, 4)
    for size in ((100_000, 100_000), (12_000, 11_000), (2**31 - 1, 2**31 - 1)):
        file.write_bytes(png(*size))
        with pytest.raises((CalibrationError, LimitError)):
            read_image(file, "RGB", (4, 4))
    file.write_bytes(png(10_500, 10_000))
    with pytest.raises(LimitError) as caught:
        read_image(file, "RGB", (4, 4))
    assert caught.value.code == "limit-image-pixels"
    for data in (
        b"",
        b"GIF89a",
        good.getvalue()[:40],
        b"\x89PNG\r\n\x1a\n" + b"\xff" * 50,
        b"BM" + b"\xff" * 60,
        b"II*\0" + b"\xff" * 60,
    ):
        file.write_bytes(data)
        with pytest.raises(CalibrationError) as refused:
            read_image(file, "RGB", (4, 4))
        assert refused.value.code == "data-unreadable"
