"""ONNX Runtime on the CPU.

`compiler` describes it, `build` is what a worker runs, `regions` matches the optimized graph with the model, `serve` and
`profile` run and measure engines.
"""
