"""Rewrites of ONNX graphs with onnx_ir: casts, Q/DQ pairs, opset. Each keeps the names of the nodes that it does not change."""
