"""Text from files that someone else made."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from workbench.core.documents import read_text

pytestmark = pytest.mark.tiny


def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "layers.json")
    signal.alarm(10)  # opening it would wait for somebody who writes
    try:
        with pytest.raises(OSError, match="named pipe"):
            read_text(tmp_path / "layers.json")
    finally:
        signal.alarm(0)


def test_what_a_shell_puts_in_place_of_a_file_is_read() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"text")
    os.close(writer)
    try:
        assert read_text(f"/dev/fd/{reader}") == "text"
    finally:
        os.close(reader)
