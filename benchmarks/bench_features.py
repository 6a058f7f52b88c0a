"""What a cache of features saves: paper 0's network, random frozen SlimSAM encoders (both sizes) at 1024 pixels.

Epochs are plain loops of single pictures with the optimizer's step; the first one fills the cache. With transformers'
own attention that is what one would have otherwise, with this library's blocked attention what its encoder has.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SamVisionModel

from benchmarks.harness import Row, parser, report
from mde.models import SAMDepth, SamEncoder
from mde.models.feature_cache import CachedFeatures, FeatureFolder
from mde.models.layers import resize
from mde.types import Batch

SMALL: dict[str, Any] = {"hidden_size": 24, "mlp_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"image_size": 64, "window_size": 2, "global_attn_indexes": [1]}


def make_batches(count: int, size: tuple[int, int]) -> list[Batch]:
    """Pictures of one each, with colours and depths that vary smoothly."""
    generator = torch.Generator().manual_seed(0)
    return [
        Batch(
            image=resize(torch.rand(1, 3, 16, 16, generator=generator), size),
            depth=resize(torch.rand(1, 1, 8, 8, generator=generator), size) * 9 + 0.5,
            valid=torch.ones(1, 1, *size, dtype=torch.bool),
            intrinsics=torch.eye(3)[None],
            id=[str(index)],
        )
        for index in range(count)
    ]


def make_model(quick: bool, blocked: bool, name: str = "slimsam-77") -> SAMDepth:
    torch.manual_seed(0)
    model = SAMDepth(SamEncoder(config=SMALL) if quick else SamEncoder(name))
    if not blocked:
        made: Any = model.encoder.net
        plain = SamVisionModel(made.config)
        plain.load_state_dict(made.state_dict())
        model.encoder.net = plain.requires_grad_(False)
        model.encoder.freeze(-1)
    return model


class InMemory:
    """A cache without keys and files: what is left of a step without its encoder."""

    def __init__(self, kept: dict[int, list[Tensor]]) -> None:
        self.kept = kept

    def __call__(self, encoder: nn.Module, image: Tensor) -> list[Tensor]:
        return self.kept[image.data_ptr()]


def epochs(model: SAMDepth, batches: Sequence[Batch], cache: Any, count: int) -> list[float]:
    """CPU seconds of each epoch."""
    model.train().encoder.cache = cache
    optimizer, times = make_optimizer(model), []
    for _ in range(count):
        start = time.process_time()
        for batch in batches:
            loss = model.training_loss(batch).loss
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        times.append(time.process_time() - start)
    return times


def make_optimizer(model: SAMDepth) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)


def saving(name: str, model: SAMDepth, batches: Sequence[Batch], folder: Path, goal: float | None) -> Row:
    """Epochs with the cache; later ones over the first."""
    first, *later = epochs(model, batches, CachedFeatures(FeatureFolder(folder)), 3)
    ratio = statistics.mean(later) / first
    note = f"{1 / ratio:.1f} times faster, {len(batches)} pictures, {first / len(batches):.1f} s each"
    return Row(f"epoch 2 with the cache, {name}", "its epoch 1", ratio, goal, note=note)


def decoder_rows(model: SAMDepth, batches: Sequence[Batch], folder: Path) -> list[Row]:
    """Steps with features from the cache against steps with features at hand: seconds and losses."""
    with torch.no_grad():
        exact = InMemory({batch["image"].data_ptr(): model.encoder.compute(batch["image"]) for batch in batches})
    cache, twins = CachedFeatures(FeatureFolder(folder)), [copy.deepcopy(model) for _ in range(3)]
    epochs(model, batches, cache, 1)  # fills it, or compares
    times: list[list[float]] = [[], [], []]
    for _ in range(6):
        for twin, features, seconds in zip(twins, (cache, exact, exact), times, strict=True):
            seconds += epochs(twin, batches, features, 1)
    cached, alone, again = map(statistics.median, times)
    apart = differences(model, batches, cache, exact)
    return [
        Row("cached epoch", "the decoder alone", cached / alone, 1.05),
        Row("the decoder alone, again", "the decoder alone", again / alone, note="the noise"),
        Row(
            "largest difference of a loss",
            "that in float32",
            max(apart),
            1e-3,
            note=f"same weights, {len(apart)} steps",
        ),
    ]


def differences(model: SAMDepth, batches: Sequence[Batch], cache: Any, exact: Any) -> list[float]:
    """Relative difference of the loss at each step of a training with the cache.

    Two trainings cannot be compared: one with features that are off by a millionth has losses off by a thousandth after
    three such steps, because Adam divides small gradients by their size.
    """
    optimizer, apart = make_optimizer(model), []
    for batch in [*batches] * 4:
        model.encoder.cache = exact
        with torch.no_grad():
            truth = float(model.training_loss(batch).loss)
        model.encoder.cache = cache
        loss = model.training_loss(batch).loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        apart.append(abs(float(loss.detach()) - truth) / truth)
    return apart


def main(argv: Sequence[str] | None = None) -> int:
    quick = parser(__doc__ or "").parse_args(argv).quick
    torch.set_num_threads(1)
    count = 2 if quick else 4
    frames = make_batches(count, (48, 64) if quick else (480, 640))  # NYU's
    squares = make_batches(count, (64, 64) if quick else (1024, 1024))
    plain, blocked = make_model(quick, False), make_model(quick, True)
    larger = make_model(quick, False, "slimsam-50")
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        rows = [
            saving("480x640, transformers' attention", copy.deepcopy(plain), frames, folder, 0.1),
            saving("1024x1024, transformers' attention", plain, squares, folder, None),
            saving("1024x1024, transformers' attention, SlimSAM-50", larger, squares, folder, 0.1),
            saving("480x640, blocked attention", copy.deepcopy(blocked), frames, folder, None),
            *decoder_rows(blocked, frames, folder),
        ]
    return report("features", rows, quick=quick)


if __name__ == "__main__":
    sys.exit(main())
