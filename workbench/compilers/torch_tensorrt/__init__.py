"""Torch-TensorRT: its partitioner, and modules compiled by it ahead of time or by ``torch.compile``.

`planned` runs its partitioner in a worker, also without a GPU; `live` compiles, saves and loads in this process; `record`
records what the partitioner decides; `shim` imports Torch-TensorRT on a machine without a GPU.
"""
