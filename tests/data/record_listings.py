"""Record the ``Layers:`` message of one TensorRT module's build log, as test data.

Run it with the interpreter of the environment that holds the version:

    python tests/data/record_listings.py tests/data/listings/1.7.1.116 sample_models/attention.onnx ...
"""

from __future__ import annotations

import sys
from pathlib import Path

import tensorrt_rtx as trt  # noqa: TID251 - this script is not part of the package and runs in a process of its own


class Logger(trt.ILogger):
    def __init__(self) -> None:
        super().__init__()
        self.min_severity = trt.ILogger.Severity.VERBOSE
        self.listing = ""

    def log(self, severity: object, message: str) -> None:
        if message.startswith("Layers:"):
            self.listing = message


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[2:]:
        logger = Logger()
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(name):
            raise SystemExit(f"{name} was not parsed")
        options = builder.create_builder_config()
        options.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        options.num_compute_capabilities = 1
        options.set_compute_capability(trt.ComputeCapability.SM89, 0)
        if builder.build_serialized_network(network, options) is None:
            print(f"{name}: not built by {trt.__version__}", file=sys.stderr)
            continue
        (folder / f"{Path(name).stem}.txt").write_text(logger.listing, newline="")


if __name__ == "__main__":
    main()
