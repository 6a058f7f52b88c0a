"""`DepthModule`: the only training, validation, test and predict steps of the library.

A method gives two things: ``forward(image)``, its network's output at the input's size, and, where more than that is
supervised, a ``training_loss(batch)``. Encoder, decoder, codec, loss, optimizer and schedule are injected: by
``class_path`` in YAML, as objects in Python.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from mde.alignment import Fit
from mde.codecs import DepthCodec
from mde.errors import CheckpointError, ConfigError
from mde.geometry import intrinsics_at
from mde.losses import DepthLoss, LossMaps
from mde.metrics import DepthMetrics
from mde.models.checkpoint import write_payload
from mde.models.constants import find_constants
from mde.models.guard import FiniteLossGuard
from mde.models.inputs import ImageInput, in_unit_range, picture_tensor
from mde.models.modes import evaluating
from mde.models.parameter_groups import GroupSettings, OptimizerFactory, is_norm_or_bias, make_groups, make_optimizer
from mde.models.parts import HasParts, require_learnable
from mde.models.schedules import Schedule
from mde.models.tta import averaged, averaged_each
from mde.protocol import EvalProtocol, HasProtocol, Prepared, resize
from mde.rebuild import Rebuildable, spec_of
from mde.resizing import resize_truth, resized
from mde.types import Ambiguity, Batch, Prediction, StepOutput

__all__ = ["DepthModule", "GroupSettings", "OptimizerFactory"]

_ADAMW: OptimizerFactory = partial(torch.optim.AdamW, lr=1e-4, weight_decay=1e-2)


class DepthModule(Rebuildable, LightningModule, ABC):
    """Base of all methods.

    Args:
        codec: the network space; None takes the method's own on `depth_range`.
        loss: what to minimise, in network space; None takes the method's own.
        optimizer: makes the optimizer from the trainable parameters.
        schedule: learning rate over the run, stepped per optimizer step; None keeps it constant.
        depth_range: (min, max) in metres; the command line links it to the data set. Used when `codec` is None.
        image_size: (height, width) the network is trained at; `predict` resizes to it. Linked to the data set.
        protocol: how validation and test score. Linked to the data set; None takes the data module's at run time.
        encoder_lr: factor of the learning rate for the encoder; 0.1 is usual where it is pretrained.
        decay_norm: False exempts norms and biases from weight decay.

    Raises:
        ConfigError: `encoder_lr` is not above 0, or the method has no encoder.
    """

    ambiguity: Ambiguity = Ambiguity.METRIC

    takes_bytes: bool = False
    """`forward` knows what to do with uint8, too."""

    alignment_constants: Fit | None = None
    """What a protocol fitted once for the whole set (`EvalProtocol.alignment_scope`), found before each evaluation."""

    def __init__(
        self,
        *,
        codec: DepthCodec | None = None,
        loss: DepthLoss | None = None,
        optimizer: OptimizerFactory = _ADAMW,
        schedule: Schedule | None = None,
        depth_range: tuple[float, float] = (0.1, 10.0),
        image_size: tuple[int, int] | None = None,
        protocol: EvalProtocol | None = None,
        encoder_lr: float = 1.0,
        decay_norm: bool = True,
    ) -> None:
        super().__init__()
        if encoder_lr <= 0:
            hint = "to keep it as it is give encoder.frozen_stages -1"
            raise ConfigError(f"encoder_lr must be above 0, got {encoder_lr}", where="model", next_action=hint)
        self.encoder_lr, self.decay_norm = encoder_lr, decay_norm
        self.codec = codec if codec is not None else self.default_codec(*depth_range)
        self.loss = loss if loss is not None else self.default_loss()
        self.optimizer_factory = optimizer
        self.schedule = schedule
        self.image_size = None if image_size is None else (int(image_size[0]), int(image_size[1]))
        self.protocol = protocol
        self.val_metrics: DepthMetrics | None = None
        self.test_metrics: DepthMetrics | None = None
        self._parts: tuple[str, ...] = ()  # the names of several sets to validate on
        self._guard = FiniteLossGuard()

    # ---- what a method gives -----------------------------------------------------------------------------------------

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """(B,3,H,W) RGB in [0,1] -> network space, (B,C,H,W)."""

    @abstractmethod
    def default_codec(self, min_depth: float, max_depth: float) -> DepthCodec:
        """The method's own codec on a range in metres."""

    @abstractmethod
    def default_loss(self) -> DepthLoss:
        """The method's own loss; `self.codec` exists already."""

    def training_loss(self, batch: Batch) -> StepOutput:
        """Loss of a training batch; a method overrides it where more than the final output is supervised."""
        return StepOutput(self.output_loss(self(batch["image"]), batch))

    def output_loss(self, raw: Tensor, batch: Batch) -> Tensor:
        """Loss of the final output alone; in validation the truth is brought to its size first (nearest).

        Args:
            raw: (B,C,h,w), network space.
        """
        return self.loss.of(self.maps(raw, batch))

    def maps(self, raw: Tensor, batch: Batch) -> LossMaps:
        """An output with the truth and the camera at its size.

        Args:
            raw: (B,C,h,w), network space.
        """
        size = raw.shape[-2:]
        depth, valid = resize_truth(batch["depth"], batch["valid"], size)
        return LossMaps(raw, depth, valid, self.codec, intrinsics_at(batch, size))

    def raw(self, image: Tensor) -> Tensor:
        """What the loss and the codec work on in evaluation, (B,C,h,w); a method overrides it to work on less than full
        size."""
        return cast(Tensor, self(image))

    def raws(self, image: Tensor) -> dict[str, Tensor]:
        """`raw` under the name "", and by their names other outputs that a test scores beside it (`VariantScores`)."""
        return {"": self.raw(image)}

    def group_of(self, name: str, parameter: nn.Parameter) -> GroupSettings:
        """How one parameter is trained where it differs from the optimizer's settings; a method may override it.

        Args:
            name: dotted, such as "encoder.net.conv1.weight".
            parameter: itself.
        """
        settings = {"lr_factor": self.encoder_lr} if name.startswith("encoder.") else {}
        return settings if self.decay_norm or not is_norm_or_bias(parameter) else {**settings, "weight_decay": 0.0}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, as groups of an optimizer."""
        if self.encoder_lr != 1 and not any(name == "encoder" for name, _ in self.named_children()):
            hint = "leave it out"
            raise ConfigError(f"{type(self).__name__} has no encoder", where="model.encoder_lr", next_action=hint)
        return make_groups(self.named_parameters(), self.group_of)

    # ---- use ---------------------------------------------------------------------------------------------------------

    def predict_batch(self, image: Tensor, flip: bool = False) -> Tensor:
        """Decoded prediction at the input's size.

        Args:
            image: (B,3,H,W), RGB, float in [0,1] or uint8.
            flip: average with the prediction of the mirrored image, in decoded space.

        Returns:
            float32 (B,1,H,W); metres where `ambiguity` is METRIC.
        """
        inputs = image if self.takes_bytes else in_unit_range(image)
        return resized(self.decoded(inputs, EvalProtocol(flip=flip)), image.shape[-2:])

    def decoded(self, image: Tensor, protocol: EvalProtocol, raw: Tensor | None = None) -> Tensor:
        """Decoded prediction as the network gives it, averaged as the protocol says (`mde.models.tta`).

        Args:
            image: float32 (B,3,H,W), RGB in [0,1].
            protocol: its flip, flip_blend, scales and space count.
            raw: what `raw` gives for `image`, where that is known already.

        Returns:
            float32 (B,1,h,w); metres where `ambiguity` is METRIC.
        """
        first = None if raw is None else self.codec.decode(raw)
        return averaged(lambda each: self.codec.decode(self.raw(each)), image, protocol, self.ambiguity, first)

    @torch.no_grad()
    def predict(self, image: ImageInput, flip: bool = False, image_size: tuple[int, int] | None = None) -> Prediction:
        """Predict one picture, or a batch tensor, at its own size.

        Args:
            image: path, PIL image, NumPy (H,W,3) RGB, or tensor (3,H,W) / (B,3,H,W); uint8 or float in [0,1].
            flip: average with the mirrored prediction.
            image_size: (height, width) at which the network works, in place of that of its training.

        Returns:
            A `Prediction` whose maps are (B,1,H,W) at the picture's own size.
        """
        pictures = picture_tensor(image).to(self.device)
        size, inner = pictures.shape[-2:], image_size or self.image_size
        inputs = pictures if inner is None else resized(in_unit_range(pictures), inner)
        with evaluating(self):
            pred = resized(self.predict_batch(inputs, flip), size)
        return Prediction(pred, self.ambiguity)

    # ---- Lightning ---------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        if stage == "fit":
            _ = self.rebuild_spec  # what could not be saved later is said before the training, not after
        datamodule = getattr(self.trainer, "datamodule", None)
        if stage == "fit":
            require_learnable(datamodule, self.ambiguity, type(self).__name__)
        if self.protocol is None and isinstance(datamodule, HasProtocol):
            self.protocol = datamodule.protocol
        self.val_metrics = DepthMetrics(self.scoring_protocol)
        self.test_metrics = DepthMetrics(self.scoring_protocol)
        parts = datamodule.protocols if isinstance(datamodule, HasParts) else {}
        self._parts = tuple(parts)
        if parts:
            self._part_metrics = nn.ModuleList(DepthMetrics(protocol) for protocol in parts.values())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        out = self.training_loss(batch)
        self._guard.add(out.loss, batch["id"], self.trainer.default_root_dir)
        # one log call costs as much as the whole Trainer: the mean over the epoch comes from a running sum instead
        if batch_idx == 0 or self._logger_writes_now():  # the first one is for the progress bar
            self.log("train/loss", out.loss.detach(), prog_bar=True, batch_size=len(batch["id"]))
            self.log_dict({f"train/{k}": v for k, v in out.logs.items()}, batch_size=len(batch["id"]))
        return out.loss

    def _logger_writes_now(self) -> bool:
        # the Trainer writes after the steps n, 2n, …; what was logged at another step would be written with a wrong
        # number
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # its logger connector sets it
        return every > 0 and (self.global_step + 1) % every == 0

    def on_train_epoch_end(self) -> None:
        mean = self._guard.epoch_mean(self.trainer.default_root_dir)
        self.log("train/loss_epoch", mean, sync_dist=True, prog_bar=False)

    def on_validation_start(self) -> None:
        trainer = self.trainer
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        # backwards: the constants of the first set are those that stay for callbacks
        for index, metrics in reversed(list(enumerate(self._validated))):
            self._find_constants(metrics, self._val_loader(index), [batches[index]])

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """As `test_step`; logs the loss, too, of each of several sets by its name."""
        counted = self.counted(batch_idx, self._val_loader(dataloader_idx))
        raw, pred = self._evaluate(batch, self._validated[dataloader_idx], counted)
        name = f"val/{self._parts[dataloader_idx]}/loss" if self._parts else "val/loss"
        count = len(batch["id"])
        self.log(name, self.output_loss(raw, batch), batch_size=count, sync_dist=True, add_dataloader_idx=False)
        return {"pred": pred}

    def _val_loader(self, index: int) -> object:
        loaders: Any = self.trainer.val_dataloaders
        return loaders[index] if self._parts else loaders

    @property
    def _validated(self) -> Sequence[DepthMetrics | None]:
        """The metrics of each validation loader."""
        return [cast(DepthMetrics, each) for each in self._part_metrics] if self._parts else [self.val_metrics]

    def on_validation_epoch_end(self) -> None:
        if not self._parts:
            self._log_metrics("val", self.val_metrics)
            return
        # what stands under the usual names is the mean over the sets, each with the same weight
        sets = zip(self._parts, self._validated, strict=True)
        found = [self._log_metrics(f"val/{name}", metrics) for name, metrics in sets]
        means = {f"val/{key}": torch.stack([each[key] for each in found]).mean() for key in found[0]}
        logged = self.trainer.callback_metrics  # empty in the sanity check
        losses = [logged[f"val/{name}/loss"] for name in self._parts if f"val/{name}/loss" in logged]
        means |= {"val/loss": torch.stack(losses).mean()} if losses else {}
        self.log_dict(means, sync_dist=False, rank_zero_only=False)

    def on_test_start(self) -> None:
        self._find_constants(self.test_metrics, self.trainer.test_dataloaders, self.trainer.num_test_batches)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Score a batch; callbacks get what was scored as ``outputs["pred"]``, (B,1,h,w) as the network gives it, and
        other predictions of it by their names."""
        counted = self.counted(batch_idx, self.trainer.test_dataloaders)
        image, protocol = batch["image"], self.scoring_protocol

        def decoded(each: Tensor) -> dict[str, Tensor]:
            return {name: self.codec.decode(raw) for name, raw in self.raws(each).items()}

        preds = averaged_each(decoded, image, protocol, self.ambiguity)
        pred = preds.pop("")
        self._add(pred, batch, self.test_metrics, counted)
        return {"pred": pred, **preds}

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test", self.test_metrics)

    def predict_step(self, batch: Batch, batch_idx: int) -> Prediction:
        """The prediction as a test scores it before it is aligned, at the size of the truth, (B,1,h,w)."""
        protocol = self.scoring_protocol
        pred = self.decoded(batch["image"], protocol)
        return Prediction(resize(pred, batch["depth"].shape[-2:], protocol.resize), self.ambiguity)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.optimizer_factory, self.parameter_groups())
        if self.schedule is None:
            return optimizer
        scheduler = self.schedule.build(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._guard.check()
        write_payload(checkpoint, self.rebuild_spec, self.protocol)

    @property
    def rebuild_spec(self) -> dict[str, Any]:
        """How to make this module again without the data set: plain data with the codec spelled out.

        Raises:
            CheckpointError: an injected object has no plain form.
        """
        arguments = {k: v for k, v in self._given_args.items() if k not in ("protocol", "depth_range")}
        arguments["codec"] = self.codec
        init_args = {}
        for name, value in arguments.items():
            try:
                init_args[name] = spec_of(value, where=name)
            except CheckpointError:
                if name != "optimizer":  # needed to train on, not to use the network: the default takes its place
                    raise
        return {"class_path": f"{type(self).__module__}.{type(self).__qualname__}", "init_args": init_args}

    # ---- evaluation --------------------------------------------------------------------------------------------------

    @property
    def scoring_protocol(self) -> EvalProtocol:
        """`protocol`, or the plain one, which counts all valid pixels, where none was given."""
        return self.protocol or EvalProtocol()

    def _evaluate(self, batch: Batch, metrics: DepthMetrics | None, counts: Tensor | None) -> tuple[Tensor, Tensor]:
        """Add a batch to the metrics; returns the network's output and its decoded, averaged form."""
        raw = self.raw(batch["image"])
        pred = self.decoded(batch["image"], self.scoring_protocol if metrics is None else metrics.protocol, raw)
        self._add(pred, batch, metrics, counts)
        return raw, pred

    def _add(self, pred: Tensor, batch: Batch, metrics: DepthMetrics | None, counts: Tensor | None) -> None:
        if metrics is None:
            raise RuntimeError("setup() has not run")
        metrics.update(pred, batch["depth"], batch["valid"], ambiguity=self.ambiguity, counts=counts)

    def _find_constants(self, metrics: DepthMetrics | None, loader: object, batches: Sequence[float]) -> None:
        self.alignment_constants = None  # those of an earlier evaluation do not belong to this one
        if metrics is not None and metrics.protocol.alignment_scope != "image":
            self.alignment_constants = find_constants(self, metrics.protocol, loader, sum(batches))
            metrics.constants = self.alignment_constants

    def prepared(self, pred: Tensor, batch: Batch) -> Prepared:
        """What the protocol makes of a prediction, for callbacks: resized, aligned, clamped; and the pixels that count.

        Args:
            pred: (B,1,h,w), as ``outputs["pred"]`` of a test step.
            batch: of the test.
        """
        truth = batch["depth"], batch["valid"]
        return self.scoring_protocol.prepare_reported(pred, *truth, self.ambiguity, self.alignment_constants)

    def counted(self, batch_idx: int, loader: object) -> Tensor | None:
        """Which images of the batch count: a distributed sampler repeats some at the end to fill all ranks."""
        if not isinstance(loader, DataLoader) or not isinstance(loader.sampler, DistributedSampler):
            return None
        sampler = loader.sampler
        first = batch_idx * int(loader.batch_size or 1)
        in_rank = torch.arange(first, min(first + int(loader.batch_size or 1), sampler.num_samples))
        return in_rank * sampler.num_replicas + sampler.rank < len(cast(Any, sampler.dataset))

    def _log_metrics(self, stage: str, metrics: DepthMetrics | None) -> dict[str, Tensor]:
        if metrics is None:
            return {}
        values = {k: v.float() for k, v in metrics.compute().items()}
        # computed over all ranks already: every rank logs the same
        self.log_dict({f"{stage}/{k}": v for k, v in values.items()}, sync_dist=False, rank_zero_only=False)
        if stage != "test":
            metrics.reset()
        return values
