"""Recognizes files that are not ONNX models by their first bytes, and explains what they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core.errors import ModelError, first_lines
from workbench.model.onnx_wire import WireError, shortened

if TYPE_CHECKING:
    pass


LFS = b"version https://git-lfs"


def no_file(path: Path, error: OSError | ValueError) -> ModelError:
    """Why a file can't be opened or read."""
    name = str(path) if len(str(path)) < 300 else f"{str(path)[:300]}..."
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ModelError(f"There is no file {name}.", hint=_near(path), code="no-file")
    if isinstance(error, PermissionError):
        return ModelError(
            f"There is no permission to read {name}.", hint="Check its permissions.", code="no-permission"
        )
    why = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return ModelError(f"{name!r} can't be read: {why}.", hint="Check the path.", code="unreadable-file")


def not_onnx(path: Path, error: Exception | None) -> ModelError:
    """The error for a file that is not an ONNX model. It names the file's type only if that was recognized."""
    found = _what_else(path)
    if found is not None:
        kind, text, hint = found
        code = "git-lfs-pointer" if kind == "git-lfs" else "not-onnx"
        return ModelError(f"{path} is not an ONNX model: it is {text}.", hint=hint, details={"found": kind}, code=code)
    if isinstance(error, WireError) and error.cut:
        return ModelError(
            f"{path} is not a complete ONNX file ({error}).",
            hint="If it is an ONNX model, it is incomplete: export or download it again.",
            code="cut-short",
        )
    if isinstance(error, WireError) and error.deep:
        return ModelError(
            f"{path} nests graphs too deeply ({error}).", hint="No ONNX library can read such a file.", code="too-deep"
        )
    if error is not None:
        return ModelError(
            f"{path} is not an ONNX file: it does not hold a protobuf message of ONNX ({first_lines(error)}).",
            hint="Pass a file made by torch.onnx.export.",
            code="not-onnx",
        )
    return ModelError(f"{path} holds no ONNX graph.", hint="Pass a file made by torch.onnx.export.", code="no-graph")


_MAGIC: tuple[tuple[bytes, int, str, str, str], ...] = (
    (LFS, 0, "git-lfs", "a Git LFS pointer", "Run `git lfs pull` to get the model itself."),
    (b"\x89HDF", 0, "hdf5", "an HDF5 file, which Keras writes", "Convert it with tf2onnx first."),
    (b"TFL3", 4, "tflite", "a TFLite model", "Convert it to ONNX, for example with tf2onnx --tflite."),
    (b"ORTM", 4, "ort", "a model in ONNX Runtime's format (.ort)", "Pass the .onnx file that it was made from."),
    (b"ftrt", 0, "engine", "a TensorRT engine", "Pass the model that it was built from."),
    (b"vtrt", 0, "engine", "an engine of TensorRT for RTX", "Pass the model that it was built from."),
    (b"GGUF", 0, "gguf", "a GGUF file of llama.cpp", "Pass an ONNX export of the model."),
    (b"\x1f\x8b", 0, "gzip", "a gzip archive", "Unpack it and pass the .onnx file."),
    (b"BZh", 0, "bzip2", "a bzip2 archive", "Unpack it and pass the .onnx file."),
    (b"\xfd7zXZ\0", 0, "xz", "an xz archive", "Unpack it and pass the .onnx file."),
    (b"\x28\xb5\x2f\xfd", 0, "zstd", "a Zstandard archive", "Unpack it and pass the .onnx file."),
    (b"7z\xbc\xaf\x27\x1c", 0, "7z", "a 7z archive", "Unpack it and pass the .onnx file."),
    (b"ustar", 257, "tar", "a tar archive", "Unpack it and pass the .onnx file."),
    (b"\x93NUMPY", 0, "npy", "a NumPy array", "Pass the .onnx file."),
    (b"\x7fELF", 0, "elf", "a Linux program or library", "Pass the .onnx file."),
    (b"%PDF", 0, "pdf", "a PDF document", "Pass the .onnx file."),
    (b"\x89PNG", 0, "image", "a PNG image", "Pass the .onnx file."),
    (b"\xff\xd8\xff", 0, "image", "a JPEG image", "Pass the .onnx file."),
)  # fmt: skip
"""First bytes, their offset, a name for programs, a description, and a hint."""


def _what_else(path: Path) -> tuple[str, str, str] | None:
    """The file's type by its first bytes: a name for programs, a description, and a hint; None if not recognized."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return None
    for magic, at, kind, text, hint in _MAGIC:
        if head[at : at + len(magic)] == magic:
            return kind, text, hint
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(head)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 2:
        return "pickle", "a Python pickle, which torch.save wrote before 1.6", "Load it in Python and pass the module."
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return "safetensors", "a safetensors file: weights without a graph", "Load it in Python and pass the module."
    try:
        text = head[: 4096 if size > 4096 else len(head)].decode("utf-8", "strict" if size <= 4096 else "ignore")
    except UnicodeDecodeError:
        return None
    if any(c < " " and c not in "\t\n\r\f" for c in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return "html", "an HTML page", "A web page was saved instead of the model: download the file itself."
    if start.startswith(("<?xml", "<net ")) and "<net " in start:
        return "openvino", "an OpenVINO model (.xml)", "Pass the ONNX file that it was made from."
    if start.startswith(("<", "{", "[")):
        return "text", f"a {'JSON' if start[0] in '{[' else 'XML'} text", "Download or export the model again."
    return "text", "a text file", "Download or export the model again."


def _zip_kind(head: bytes) -> tuple[str, str, str]:
    """The contents of a zip archive, by the name of its first entry."""
    name = head[30 : 30 + int.from_bytes(head[26:28], "little")].decode("utf-8", "replace")
    if name.endswith(("/data.pkl", "/archive_format", "/.format_version", "/byteorder", "/version", "/.data/version")):
        return "torch", "an archive of torch.save, torch.jit or torch.export", "Load it in Python and pass the module."
    if name.endswith(".npy"):
        return "npz", "an archive of NumPy arrays (.npz)", "Pass the .onnx file."
    return "zip", f"a zip archive (its first entry is {shortened(name)!r})", "Unpack it and pass the .onnx file."


def _near(path: Path) -> str | None:
    import difflib

    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    names = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.onnx")], n=3)
    return f"Did you mean {' or '.join(names)}?" if names else None
