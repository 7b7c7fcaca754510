"""Rewrites of ONNX graphs with onnx_ir: casts, Q/DQ pairs, opset. Nodes that do not change keep their names."""
