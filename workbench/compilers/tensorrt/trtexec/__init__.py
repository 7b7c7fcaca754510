"""trtexec's files and its command line.

`inspect` makes a plan from the files that trtexec wrote; `write_layers` and `write_profile` write a plan as such files;
`command` is the trtexec call for a `BuildConfig`.
"""

from __future__ import annotations

from workbench.compilers.tensorrt.trtexec.commands import Command, command
from workbench.compilers.tensorrt.trtexec.read import Times, read_metadata, read_profile, read_times
from workbench.compilers.tensorrt.trtexec.to_plan import inspect
from workbench.compilers.tensorrt.trtexec.write import layers_document, profile_document, write_layers, write_profile

__all__ = [
    "Command",
    "Times",
    "command",
    "inspect",
    "layers_document",
    "profile_document",
    "read_metadata",
    "read_profile",
    "read_times",
    "write_layers",
    "write_profile",
]
