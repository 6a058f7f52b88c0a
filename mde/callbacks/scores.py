"""What a test scores beside the network's prediction: variants of it, and metrics that the protocol does not have."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics import Metric

from mde.metrics import DepthMetrics
from mde.models import DepthModule
from mde.protocol import EvalProtocol
from mde.types import Batch

__all__ = ["ExtraMetrics", "OffersVariants", "VariantScores"]


@runtime_checkable
class OffersVariants(Protocol):
    """A module with other predictions that should stand beside its own, such as one without post-processing."""

    def variants(self, image: Tensor) -> dict[str, Tensor]:
        """Network space by name, as of `DepthModule.raw`, of (B,3,H,W) RGB in [0,1]; empty where there are none."""


class VariantScores:
    """The protocol's errors of each variant; nothing is computed for a module that offers none."""

    def __init__(self) -> None:
        self._metrics: dict[str, DepthMetrics] = {}

    def update(self, module: DepthModule, batch: Batch, counts: Tensor | None) -> None:
        """Add a batch, exactly as the test adds the prediction itself.

        Args:
            module: the network under test.
            batch: of the test.
            counts: bool (B,), False leaves an image out.
        """
        protocol = module.protocol or EvalProtocol()
        for name, pred in _predictions(module, batch["image"], protocol.flip).items():
            metrics = self._metrics.setdefault(name, DepthMetrics(protocol).to(module.device))
            metrics.update(pred, batch["depth"], batch["valid"], ambiguity=module.ambiguity, counts=counts)

    def compute(self) -> dict[str, dict[str, float]]:
        """Errors by variant, over all processes (each of them has to call this)."""
        return {name: as_floats(metrics.compute()) for name, metrics in self._metrics.items()}


class ExtraMetrics(Callback):
    """Scores what is tested by more metrics; ``results.json`` carries them under "extra".

    The prediction is brought to the truth's size, aligned and clamped as the protocol says. All valid pixels count, be
    they beyond the protocol's range or not: a window of SSIM needs whole neighbourhoods.

    Args:
        metrics: by name; each takes ``update(pred, target, valid, counts)`` in metres, as `mde.metrics.SSIMMetric`.
    """

    def __init__(self, metrics: dict[str, Metric]) -> None:
        self._metrics = nn.ModuleDict(metrics)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._metrics.to(pl_module.device)
        for metric in self._metrics.values():
            metric.reset()  # type: ignore[operator]

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int, *_: Any
    ) -> None:
        if not isinstance(pl_module, DepthModule):
            return
        protocol = pl_module.protocol or EvalProtocol()
        prepared = protocol.prepare_reported(outputs["pred"], batch["depth"], batch["valid"], pl_module.ambiguity)
        counts = pl_module.counted(batch_idx, trainer.test_dataloaders)
        for metric in self._metrics.values():
            metric.update(prepared.pred, batch["depth"], batch["valid"], counts)  # type: ignore[operator]

    def compute(self) -> dict[str, float]:
        """Values by name, over all processes (each of them has to call this)."""
        return as_floats({name: metric.compute() for name, metric in self._metrics.items()})  # type: ignore[operator]


def as_floats(values: dict[str, Tensor]) -> dict[str, float]:
    """Scalars as plain numbers."""
    return {name: float(value) for name, value in values.items()}


def _predictions(module: DepthModule, image: Tensor, flip: bool) -> dict[str, Tensor]:
    if not isinstance(module, OffersVariants):
        return {}
    with module.trainer.precision_plugin.forward_context():
        pred = {name: module.codec.decode(raw) for name, raw in module.variants(image).items()}
        mirrored = module.variants(image.flip(-1)) if flip and pred else {}
    for name, raw in mirrored.items():
        pred[name] = (pred[name] + module.codec.decode(raw).flip(-1)) / 2
    return pred
