"""What a user would write without the workbench: parse, build, keep the log. The yardstick of `bench_fusions`."""

import sys
from pathlib import Path

import tensorrt_rtx as trt  # noqa: TID251 - the yardstick is the raw API


class Logger(trt.ILogger):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def log(self, severity: object, message: str) -> None:
        self.messages.append(message)


logger = Logger()
builder = trt.Builder(logger)
network = builder.create_network(0)
parser = trt.OnnxParser(network, logger)
if not parser.parse_from_file(sys.argv[1]):
    sys.exit("parse failed")
config = builder.create_builder_config()
config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
config.num_compute_capabilities = 1
config.set_compute_capability(trt.ComputeCapability.SM89, 0)
engine = builder.build_serialized_network(network, config)
with Path(sys.argv[2]).open("wb") as file:
    file.write(memoryview(engine))
Path(sys.argv[3]).write_text("\n".join(logger.messages))
