"""PyTorch's ways into TensorRT: Torch-TensorRT compiled ahead or by ``torch.compile``, and what of a model it takes.

`report` is the partition as data; `plan` works one out in a worker, also without a GPU; `live` compiles, saves and loads
in this process; `record` listens to Torch-TensorRT's partitioner; `shim` imports it where there is no GPU.
"""

from __future__ import annotations

from workbench.compilers.torch_tensorrt.partition import Operator, Partition, Segment

__all__ = ["Operator", "Partition", "Segment"]
