"""The parts of CUDA that measurements need, through torch: memory, a stream, events, graphs. Used only in workers."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

from workbench.core.errors import CompilerUnavailableError


def need_gpu(available: bool) -> None:
    """Check that there is a GPU.

    Raises:
        CompilerUnavailableError: there is no GPU.
    """
    if not available:
        raise CompilerUnavailableError(
            "Running an engine needs an NVIDIA GPU, its driver, and a build of torch with CUDA.",
            hint="`workbench doctor` shows what is missing. Plans do not need a GPU.",
        )


class TorchDevice:
    """The first GPU, with its own stream. See `workbench.hardware.device.GraphDevice`.

    Raises:
        CompilerUnavailableError: there is no torch with CUDA, or no GPU.
    """

    clock = "CUDA events around each execution, queued back to back"

    def __init__(self) -> None:
        try:
            import torch
        except ImportError:
            need_gpu(False)
            raise
        need_gpu(torch.cuda.is_available())
        self._torch = torch
        self._stream = torch.cuda.Stream()
        self.stream: int = self._stream.cuda_stream

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Memory on the GPU."""
        return self._torch.empty(shape, dtype=self._type(dtype), device="cuda")

    def upload(self, array: Any, dtype: str) -> Any:
        """A contiguous tensor on the GPU; no copy if it is one already."""
        torch = self._torch
        if not isinstance(array, torch.Tensor):
            array = self._from_numpy(array, dtype)
        tensor = array.to("cuda").contiguous()
        self._stream.wait_stream(torch.cuda.current_stream())
        return tensor

    def download(self, tensor: Any) -> Any:
        """A NumPy array; bfloat16 becomes float32."""
        torch = self._torch
        tensor = tensor.detach()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()

    def describe(self, value: Any) -> tuple[tuple[int, ...], str]:
        """Shape and data type of an array or tensor."""
        return tuple(value.shape), str(value.dtype).removeprefix("torch.")

    def finite(self, tensor: Any) -> bool:
        """Whether no value is NaN or infinite."""
        return bool(self._torch.isfinite(tensor).all())

    def pointer(self, tensor: Any) -> int:
        """The tensor's address."""
        return int(tensor.data_ptr())

    def synchronize(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def times(self, step: Callable[[], object], count: int) -> list[float]:
        """Milliseconds of `count` steps, each between two CUDA events, queued back to back."""
        torch = self._torch
        marks = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
        with torch.cuda.stream(self._stream):
            for begin, end in marks:
                begin.record(self._stream)
                step()
                end.record(self._stream)
        self._stream.synchronize()
        return [float(begin.elapsed_time(end)) for begin, end in marks]

    def capture(self, step: Callable[[], None]) -> Callable[[], None]:
        """`step` as a CUDA graph: the function replays it on the same stream."""
        torch = self._torch
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            step()

        def replay() -> None:
            with torch.cuda.stream(self._stream):
                graph.replay()

        return replay

    def copies(self, host: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> tuple[Any, Any]:
        """Two steps that copy inputs to the GPU and outputs back, through pinned memory, on the stream."""
        torch = self._torch

        def on_host(name: str, tensor: Any) -> Any:
            given = host.get(name)
            if given is None:
                return tensor.cpu()
            return given if isinstance(given, torch.Tensor) else self._from_numpy(given, self.describe(tensor)[1])

        pinned = {name: on_host(name, tensor).pin_memory() for name, tensor in inputs.items()}
        back = {n: torch.empty_like(t, device="cpu").pin_memory() for n, t in outputs.items()}

        def there() -> None:
            for name, tensor in inputs.items():
                tensor.copy_(pinned[name], non_blocking=True)

        def again() -> None:
            for name, tensor in outputs.items():
                back[name].copy_(tensor, non_blocking=True)

        return there, again

    def kernels(self, step: Callable[[], None], count: int = 5) -> list[dict[str, Any]]:
        """The kernels that one `step` starts, by torch.profiler (CUPTI), in the order in which they started.

        Returns:
            ``name`` and ``ms`` (median of `count` steps) of each kernel.

        Raises:
            RuntimeError: two steps started different kernels.
        """
        torch = self._torch
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            with torch.cuda.stream(self._stream):
                for _ in range(count):
                    step()
            self._stream.synchronize()
        found = [
            (e.time_range.start, e.name, e.time_range.elapsed_us() / 1e3)
            for e in profiler.events()
            if e.device_type == torch.autograd.DeviceType.CUDA and not e.name.startswith(("Memcpy", "Memset"))
        ]
        found.sort()
        size, rest = divmod(len(found), count)
        names = [name for _, name, _ in found[:size]]
        runs = [found[i * size : (i + 1) * size] for i in range(count)]
        if rest or any([name for _, name, _ in run] != names for run in runs):
            raise RuntimeError("the profiler saw different kernels in different runs")
        return [{"name": name, "ms": statistics.median(run[i][2] for run in runs)} for i, name in enumerate(names)]

    def ceilings(self) -> dict[str, Any]:
        """Measured peaks: bytes per second of one large copy, operations per second of one GEMM for each precision.

        Returns:
            ``bandwidth`` and ``peaks`` as in `workbench.hardware.devices.DeviceSpec`, best of several runs; ``size``, the
            edge of the square matrices. A precision that torch or the GPU lacks has no entry.

        Raises:
            RuntimeError: too little memory is free on the GPU.
        """
        torch = self._torch
        edge = 8192
        free, _ = torch.cuda.mem_get_info()
        while 40 * edge * edge > free // 2:
            edge //= 2
        if edge < 4096:  # smaller copies stay in the L2 cache and would not measure the memory
            raise RuntimeError(f"only {free / 1e6:.0f} MB are free on the GPU")

        def best(step: Callable[[], object]) -> float:
            self.times(step, 3)
            return min(self.times(step, 10)) / 1e3

        source = torch.empty(4 * edge * edge, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        torch.cuda.synchronize()
        bandwidth = 2 * source.numel() / best(lambda: target.copy_(source))
        peaks: dict[str, float] = {}

        def gemm(kind: str, make: Callable[[], Callable[[], object]]) -> None:
            try:
                step = make()
                torch.cuda.synchronize()
                peaks[kind] = 2 * edge**3 / best(step)
            except (RuntimeError, AttributeError, NotImplementedError):
                return  # this GPU or this version of torch does not support it
            finally:
                torch.cuda.empty_cache()

        def plain(dtype: Any) -> Callable[[], Callable[[], object]]:
            def make() -> Callable[[], object]:
                a, b = (torch.randn(edge, edge, device="cuda").to(dtype) for _ in range(2))
                return lambda: a @ b

            return make

        def whole_numbers() -> Callable[[], object]:
            a, b = (torch.randint(-9, 9, (edge, edge), device="cuda", dtype=torch.int8) for _ in range(2))
            return lambda: torch._int_mm(a, b.t())

        def eighths() -> Callable[[], object]:
            a, b = (torch.randn(edge, edge, device="cuda").to(torch.float8_e4m3fn) for _ in range(2))
            one = torch.ones((), device="cuda")
            return lambda: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.float16)

        tf32 = torch.backends.cuda.matmul.allow_tf32
        try:
            torch.backends.cuda.matmul.allow_tf32 = False
            gemm("fp32", plain(torch.float32))
            torch.backends.cuda.matmul.allow_tf32 = True
            gemm("tf32", plain(torch.float32))
        finally:
            torch.backends.cuda.matmul.allow_tf32 = tf32
        gemm("fp16", plain(torch.float16))
        gemm("bf16", plain(torch.bfloat16))
        gemm("int8", whole_numbers)
        gemm("fp8", eighths)
        return {"bandwidth": bandwidth, "peaks": peaks, "size": edge}

    def facts(self) -> dict[str, Any]:
        """The GPU: name, architecture, memory, and the versions of torch and its CUDA."""
        torch = self._torch
        properties = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info()
        return {
            "name": properties.name, "sm": f"sm{properties.major}{properties.minor}", "memory": int(total),
            "free": int(free), "torch": str(torch.__version__), "cuda": str(torch.version.cuda),
        }  # fmt: skip

    def uuid(self) -> str | None:
        """The UUID of the GPU that torch uses; None if this version of torch does not report it."""
        found = getattr(self._torch.cuda.get_device_properties(0), "uuid", None)
        return str(found) if found else None

    def used(self) -> int:
        """Bytes in use on the GPU, by all processes."""
        free, total = self._torch.cuda.mem_get_info()
        return int(total - free)

    def _from_numpy(self, array: Any, dtype: str) -> Any:
        """A CPU tensor from an array. In NumPy, bfloat16 comes from ml_dtypes, which torch does not know."""
        import numpy as np

        array = np.ascontiguousarray(array)
        if dtype == "bfloat16":
            return self._torch.from_numpy(array.view("int16")).view(self._torch.bfloat16)
        return self._torch.from_numpy(array)

    def _type(self, dtype: str) -> Any:
        return getattr(self._torch, {"float8e4m3fn": "float8_e4m3fn"}.get(dtype, dtype))
