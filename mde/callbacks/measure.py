"""What a test says of the network itself: its size, the hash of its weights, how many pictures it takes in a second."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mde.models import DepthModule

__all__ = ["NetworkClock", "parameter_counts", "weights_hash"]


def parameter_counts(module: nn.Module) -> dict[str, int]:
    """How many numbers a module learns: "total", and "trainable" those that are not frozen."""
    counts = [(parameter.numel(), parameter.requires_grad) for parameter in module.parameters()]
    return {"total": sum(n for n, _ in counts), "trainable": sum(n for n, learns in counts if learns)}


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over the state dict: names in order, types, shapes and bytes. 64 hexadecimal digits.

    Equal for equal weights on any device and in any order of registration.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


class NetworkClock:
    """How long `DepthModule.raw` takes during a test: the network, without loading, aligning and scoring.

    The first of several calls is left out: it warms up caches and compilers. On CUDA the device's own events are read
    at the end, so that nothing waits; other accelerators are not measured.
    """

    def __init__(self, module: DepthModule) -> None:
        self._module = module
        self._raw: Callable[[Tensor], Tensor] = module.raw
        self._calls: list[tuple[int, Any, Any]] = []  # images, start, end

    def start(self) -> None:
        """Measure from here on. `raw` is covered on this instance, as no hook of torch sees a method of a subclass."""
        vars(self._module)["raw"] = self._timed

    def stop(self) -> float | None:
        """Images per second of this process, each as often as the network was given it; None if that is not known."""
        vars(self._module).pop("raw", None)
        calls, self._calls = self._calls[1:] or self._calls, []
        if not calls:
            return None
        if isinstance(calls[-1][1], torch.cuda.Event):
            torch.cuda.synchronize(self._module.device)
            seconds = sum(start.elapsed_time(end) for _, start, end in calls) / 1e3
        else:
            seconds = sum(end - start for _, start, end in calls)
        return sum(images for images, _, _ in calls) / seconds if seconds > 0 else None

    def _timed(self, image: Tensor) -> Tensor:
        if image.device.type not in ("cpu", "cuda"):
            return self._raw(image)
        start = _now(image)
        made = self._raw(image)
        self._calls.append((len(image), start, _now(image)))
        return made


def _now(image: Tensor) -> Any:
    if image.device.type == "cpu":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record(torch.cuda.current_stream(image.device))
    return event
