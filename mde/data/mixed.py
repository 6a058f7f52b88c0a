"""Several data sets in one training: batches of fixed composition, each set with its own range, truth and protocol.

R. Ranftl, K. Lasinger, D. Hafner, K. Schindler and V. Koltun, "Towards Robust Monocular Depth Estimation: Mixing
Datasets for Zero-shot Cross-dataset Transfer", TPAMI 2020, https://arxiv.org/abs/1907.01341: equal parts of every set
in each mini-batch are the simple way to mix there, and the default here. Their other one, multi-objective (Pareto)
mixing, is not built; `weights` may be chosen by hand.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mde.data.base import DepthDataModule, SeededSampler
from mde.data.dataset import DepthDataset, RawSample
from mde.data.pixels import Pixels
from mde.data.transforms import PixelTransform
from mde.errors import ConfigError, nearest
from mde.protocol import EvalProtocol
from mde.types import Ambiguity, Batch

__all__ = ["MixedDataModule", "MixedDataset", "MixedSampler", "turns"]


def turns(weights: Sequence[float], count: int) -> NDArray[np.int64]:
    """Whose turn it is: a number of a part for each of `count` places, as evenly spread as the weights allow.

    Part i takes its j-th place at time (j + 1/2) / share, the earliest first (Webster's way to share out seats): among
    the first n places it has n times its share to within a frame (two frames with many very unequal parts). So where B
    times the shares are whole numbers, every batch of B has exactly these, as with equal weights and a B that the
    number of parts divides; otherwise batches differ by a frame or two, and no fraction is lost from one to the next.

    >>> turns([1.0, 1.0, 2.0], 8).tolist()
    [2, 0, 1, 2, 2, 0, 1, 2]
    """
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    numbers = [np.arange(np.ceil(share * count) + 1) for share in shares]
    times = np.concatenate([(number + 0.5) / share for number, share in zip(numbers, shares, strict=True)])
    parts = np.repeat(np.arange(len(shares)), [len(number) for number in numbers])
    # rounded, so that parts of equal weight always come in their order
    return np.asarray(parts[np.argsort(times.round(6), kind="stable")[:count]])


class _PartTransforms(PixelTransform):
    """Each frame is transformed as its part says, whose name its id begins with."""

    def __init__(self, parts: Mapping[str, PixelTransform]) -> None:
        self.parts = dict(parts)

    def pixels(self, sample: RawSample, rng_seed: int) -> Pixels:
        return self.parts[sample.id.partition("/")[0]].pixels(sample, rng_seed)


class MixedDataset(DepthDataset):
    """Several data sets one after the other; ids begin with the name of the part, "rooms/…".

    Args:
        parts: by name.
        seed: of the augmentation.

    Raises:
        ConfigError: a part's transform gives no `Pixels`.
    """

    def __init__(self, parts: Mapping[str, DepthDataset], seed: int = 0) -> None:
        transforms = {}
        for name, part in parts.items():
            if not isinstance(part.transform, PixelTransform):
                hint = "derive it from mde.data.transforms.PixelTransform"
                what = f"a mixture cannot use the transform {type(part.transform).__name__}"
                raise ConfigError(what, where=f"data.parts.{name}", next_action=hint)
            transforms[name] = part.transform
        super().__init__(_PartTransforms(transforms), seed)
        self.names, self.parts = list(parts), list(parts.values())
        self.starts = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def read(self, index: int) -> RawSample:
        part, frame = self._place(index)
        sample = copy.copy(self.parts[part].read(frame))
        sample.id = f"{self.names[part]}/{sample.id}"
        return sample

    def frame_id(self, index: int) -> str:
        part, frame = self._place(index)
        return f"{self.names[part]}/{self.parts[part].frame_id(frame)}"

    def files(self, index: int) -> tuple[Path, ...]:
        part, frame = self._place(index)
        return self.parts[part].files(frame)

    def _place(self, index: int) -> tuple[int, int]:
        """Number of the part, and of the frame in it."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return part, index - int(self.starts[part])


class MixedSampler(SeededSampler):
    """The order of an epoch of a mixture, from (seed, epoch) alone, split over the ranks.

    Each rank's batches have the same composition (`turns`). A part is gone through pass by pass, each in a new order,
    and an epoch goes on where the one before stopped: all frames of a part are seen equally often, however long an
    epoch is. The number of the pass takes the place of the epoch in an item's augmentation.

    Args:
        dataset: the mixture.
        weights: one per part, above 0.
        length: frames of an epoch over all ranks; rounded up to a multiple of their number.
        seed: of the order.
    """

    def __init__(self, dataset: MixedDataset, weights: Sequence[float], length: int, seed: int = 0) -> None:
        super().__init__(dataset, seed)
        self.mixture = dataset
        self.num_samples = -(-length // self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas
        self._turns = turns(weights, self.num_samples)

    def __iter__(self) -> Iterator[int]:
        order = np.empty(self.num_samples, np.int64)
        for part in range(len(self.mixture.parts)):
            places = self._turns == part
            order[places] = self._drawn(part, int(places.sum()))
        return iter(order.tolist())

    def _drawn(self, part: int, count: int) -> NDArray[np.int64]:
        """What this rank takes of a part in this epoch."""
        start, end = (int(place) for place in self.mixture.starts[part : part + 2])
        draws = (self.epoch * count + np.arange(count)) * self.num_replicas + self.rank
        passes, places = np.divmod(draws, end - start)
        frames = np.empty(count, np.int64)
        for number in np.unique(passes):
            order = np.random.default_rng(np.random.SeedSequence((self.seed, part, int(number)))).permutation(
                end - start
            )
            frames[passes == number] = order[places[passes == number]]
        return frames + start + passes * len(self.mixture)


class MixedDataModule(DepthDataModule):
    """Trains on several data sets at once; validates on all of them, and tests one after the other.

    A part keeps its depth range, protocol, augmentations, `truth` and `eval_batch_size`; its image size, workers and
    training batch size are those of the mixture. Which truth a method can learn from is checked before a training
    (`DepthModule`): a metric method is refused a part of relative truth, so no item of a batch has to say what it is.

    In evaluation a part is as it is alone, ids included, so that its results compare with those of a network that was
    trained on it alone.

    Args:
        parts: data modules by a name, a word without "/".
        weights: share of each part in every batch, relative to one another; a name left out weighs 1. See `turns`.
        epoch_length: training frames of an epoch, over all processes; default all frames of all parts.
        evaluate: the part that is tested first, stands in ``results.json`` and gives the network its protocol; default
            the first. The others follow, each into a folder of its name.
        image_size: (height, width) of the network's input, of all parts.
        depth_range: (min, max) in metres; default from the least to the largest of the parts.
        batch_size: training batch size per process.
        num_workers: loader processes; -1 lets the command line choose.
        seed: of the order and the augmentation; scenes and splits have that of their part.

    Raises:
        ConfigError: a name, weight or length cannot be, or a part is a mixture itself.
    """

    def __init__(
        self,
        parts: dict[str, DepthDataModule],
        weights: dict[str, float] | None = None,
        epoch_length: int | None = None,
        evaluate: str | None = None,
        *,
        image_size: tuple[int, int],
        depth_range: tuple[float, float] | None = None,
        batch_size: int = 8,
        num_workers: int = -1,
        seed: int = 0,
    ) -> None:
        _check_parts(parts)
        ranges = [part.depth_range for part in parts.values()]
        super().__init__(
            protocol=next(iter(parts.values())).protocol,
            depth_range=depth_range or (min(low for low, _ in ranges), max(high for _, high in ranges)),
            image_size=image_size,
            batch_size=batch_size,
            num_workers=num_workers,
            seed=seed,
        )
        self.parts = {name: _with_size(part, self.image_size) for name, part in parts.items()}
        self.weights = _checked_weights(parts, weights or {})
        if epoch_length is not None and epoch_length < 1:
            hint = "leave it out for all frames of all parts"
            raise ConfigError(f"must be at least 1, is {epoch_length}", where="data.epoch_length", next_action=hint)
        self.epoch_length = epoch_length
        self.evaluated = ""
        self.evaluate_on(next(iter(parts)) if evaluate is None else evaluate)

    def evaluate_on(self, name: str) -> None:
        """Validate first, and test, on the part of this name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self.parts:
            hint = f"nearest: {nearest(name, self.parts)}"
            raise ConfigError(f"there is no part {name!r}", where="data.evaluate", next_action=hint)
        self.evaluated, self.protocol = name, self.parts[name].protocol

    @property
    def scored(self) -> DepthDataModule:
        return self.parts[self.evaluated]

    @property
    def truths(self) -> Mapping[str, Ambiguity]:
        return {f"data.parts.{name}": part.truth for name, part in self.parts.items()}

    @property
    def protocols(self) -> Mapping[str, EvalProtocol]:
        return {name: self.parts[name].protocol for name in self._first_the_evaluated()}

    @property
    def in_memory(self) -> bool:
        return all(part.in_memory for part in self.parts.values())

    def facts(self) -> dict[str, Any]:
        """Those of the part that is evaluated, and under "train" what the training consisted of."""
        parts = {name: {"weight": self.weights[name], "truth": part.truth.value} for name, part in self.parts.items()}
        return {**self.scored.record(), "train": parts}

    def train_median_depth(self, images: int = 200, pixels: int = 2000) -> float:
        """That of the part that is evaluated."""
        return self.scored.train_median_depth(images, pixels)

    def make_dataset(self, split: str) -> DepthDataset:
        if split != "train":
            return self.scored.dataset(split)
        return MixedDataset({name: part.dataset("train") for name, part in self.parts.items()}, self.seed)

    def dataset(self, split: str) -> DepthDataset:
        # the evaluated part may change, the mixture does not
        return super().dataset(split) if split == "train" else self.make_dataset(split)

    def sampler(self, dataset: DepthDataset) -> SeededSampler:
        if not isinstance(dataset, MixedDataset):
            return super().sampler(dataset)
        weights = [self.weights[name] for name in dataset.names]
        return MixedSampler(dataset, weights, self.epoch_length or len(dataset), self.seed)

    def val_dataloader(self) -> list[DataLoader[Batch]]:  # type: ignore[override]
        """A loader for each part, that of the evaluated one first, as in `protocols`."""
        return [self._ready(name).val_dataloader() for name in self._first_the_evaluated()]

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._ready(self.evaluated).test_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._ready(self.evaluated).predict_dataloader()

    def alignment_dataloader(self) -> DataLoader[Batch]:
        return self._ready(self.evaluated).alignment_dataloader()

    def _ready(self, name: str) -> DepthDataModule:
        part = self.parts[name]
        part.num_workers = self.num_workers  # which the command line chose for this machine
        return part

    def _first_the_evaluated(self) -> list[str]:
        return sorted(self.parts, key=lambda name: name != self.evaluated)


def _with_size(part: DepthDataModule, image_size: tuple[int, int]) -> DepthDataModule:
    """The part made again for pictures of another size: its constructor may derive more from it."""
    return type(part)(**{**part._given_args, "image_size": image_size})


def _check_parts(parts: Mapping[str, DepthDataModule]) -> None:
    if not parts:
        hint = "give name: {class_path: …, init_args: …}"
        raise ConfigError("a mixture needs at least one part", where="data.parts", next_action=hint)
    for name, part in parts.items():
        if not name or "/" in name:
            hint = "use a word, such as rooms: ids and logs begin with it"
            raise ConfigError(f"{name!r} cannot name a part", where="data.parts", next_action=hint)
        if not isinstance(part, DepthDataModule) or isinstance(part, MixedDataModule):
            what = f"a {type(part).__name__} cannot be part of a mixture"
            raise ConfigError(what, where=f"data.parts.{name}", next_action="give a data set with files or scenes")


def _checked_weights(parts: Mapping[str, Any], weights: Mapping[str, float]) -> dict[str, float]:
    unknown = sorted(set(weights) - set(parts))
    if unknown:
        hint = f"parts: {', '.join(parts)}"
        raise ConfigError(f"weights for {unknown}, which are no parts", where="data.weights", next_action=hint)
    for name, weight in weights.items():
        if not 0 < weight < float("inf"):
            what = f"a weight must be above 0 and finite, got {weight}"
            raise ConfigError(what, where=f"data.weights.{name}", next_action="leave the part out to do without it")
    return {name: float(weights.get(name, 1.0)) for name in parts}
