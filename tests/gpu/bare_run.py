"""A bare script that runs an engine in a CUDA graph and prints the median of its times; the yardstick of the tests."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import tensorrt_rtx as trt  # noqa: TID251 - the yardstick is the raw API
import torch

logger = trt.Logger(trt.Logger.ERROR)
engine = trt.Runtime(logger).deserialize_cuda_engine(Path(sys.argv[1]).read_bytes())
context = engine.create_execution_context()
shape = tuple(int(n) for n in sys.argv[2].split("x"))
keep = []
for i in range(engine.num_io_tensors):
    name = engine.get_tensor_name(i)
    if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT:
        context.set_input_shape(name, shape)
        keep.append(torch.randn(shape, device="cuda"))
    else:
        keep.append(torch.empty(tuple(context.get_tensor_shape(name)), device="cuda"))
    context.set_tensor_address(name, keep[-1].data_ptr())
stream = torch.cuda.Stream()
context.execute_async_v3(stream.cuda_stream)
stream.synchronize()
graph = torch.cuda.CUDAGraph()
with torch.cuda.graph(graph, stream=stream):
    context.execute_async_v3(stream.cuda_stream)
times: list[float] = []
with torch.cuda.stream(stream):
    for _ in range(400):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record(stream)
        graph.replay()
        end.record(stream)
        keep.append((begin, end))
stream.synchronize()
times = [begin.elapsed_time(end) for begin, end in keep[-300:]]
print(statistics.median(times))
