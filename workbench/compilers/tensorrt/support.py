"""Finds which nodes TensorRT's ONNX parser accepts, in a worker and without a build."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from workbench.compilers.tensorrt.build import load
from workbench.compilers.tensorrt.builder import log_to, network_flags
from workbench.compilers.tensorrt.refused import reason
from workbench.core.errors import CompilerUnavailableError
from workbench.core.worker import Reporter


def support(reporter: Reporter, *, module: str, model: str, operators: list[str] | None = None) -> dict[str, Any]:
    """Ask the parser about every node.

    The parser stops at its first error and reports the nodes after it as supported without checking them. To learn about all
    of them, cut out the refused nodes and ask again (`workbench.experiments.partition.by_parser.by_parser`).

    Args:
        reporter: Where progress goes.
        module: The TensorRT module to use.
        model: Path of the ONNX file.
        operators: Operations of ONNX's own domain to ask about by name.

    Returns:
        ``groups``: for each part that would be one engine, the indices of its nodes in ``graph.node``;
        ``refused``: by index as text, the parser's reason; ``unknown``: those of `operators` that the parser can't
        import at all; ``version``: of TensorRT.

    Raises:
        CompilerUnavailableError: the flavor is not installed, or its parser does not support this query.
    """
    trt = load(module)
    reporter.progress("Asking the parser", 0, 1)
    handle, log = tempfile.mkstemp(suffix=".log")
    os.close(handle)
    try:
        logger = log_to(trt, Path(log))
        builder = trt.Builder(logger)
        network = builder.create_network(network_flags(trt))
        parser = trt.OnnxParser(network, logger)
        if not hasattr(parser, "supports_model_v2"):
            raise CompilerUnavailableError(
                f"The parser of {module} {trt.__version__} can't say which nodes it supports."
            )
        parser.supports_model_v2(Path(model).read_bytes(), model)
        # The node lists are right. The subgraphs' "supported" flag was false for subgraphs that build.
        groups = [sorted(parser.get_subgraph_nodes(k)) for k in range(parser.num_subgraphs)]
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        refused = {str(e.node()): reason(e.desc()) for e in errors if e.node() >= 0}
        unknown = [op for op in operators or () if not parser.supports_operator(op)]
        logger.close()
    finally:
        Path(log).unlink()
    reporter.progress("Asking the parser", 1, 1)
    return {"groups": groups, "refused": refused, "unknown": unknown, "version": str(trt.__version__)}
