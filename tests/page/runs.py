"""Folders of runs as `mde test` leaves them, with numbers that are computed here from the arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mde.protocol import EvalProtocol
from mde.report.results import Results, write_results
from mde.report.samples import FOLDER, KeptImage, Sample, Samples, write_sample, write_samples
from mde.report.scores import ImageScores

PROTOCOL = EvalProtocol(name="page", max_depth=10.0)
CAMERA = ((40.0, 0.0, 15.5), (0.0, 40.0, 11.5), (0.0, 0.0, 1.0))


def truth_of(number: int, size: tuple[int, int] = (24, 32)) -> NDArray[np.float32]:
    """Smooth metres between 1 and 8, unknown in the first two rows."""
    rng = np.random.default_rng(number)
    depth = cv2.resize(rng.uniform(1, 8, (4, 5)).astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    depth[:2] = 0
    return np.asarray(depth)


def sample_of(
    number: int, sample_id: str, gain: float = 1.1, size: tuple[int, int] = (24, 32), camera: Any = CAMERA
) -> Sample:
    """Predicts `gain` times the truth, 3 m where it is unknown; the last column is not counted."""
    depth = truth_of(number, size)
    counted = depth > 0
    counted[:, -1] = False
    rgb = np.random.default_rng(number).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    pred = np.where(depth > 0, gain * depth, 3.0).astype(np.float32)
    return Sample(sample_id, image, depth, counted, pred, np.array(camera))


def write_run(
    folder: Path,
    ids: Sequence[str] = ("hall/a", "hall/b", "attic/c", "attic/d"),
    *,
    gains: Sequence[float] = (1.1, 1.3, 1.2, 1.4),
    kept: Sequence[int] = (0, 1, 2, 3),
    protocol: EvalProtocol = PROTOCOL,
    size: tuple[int, int] = (24, 32),
    first: int = 0,
    camera: Any = CAMERA,
    ambiguity: str = "metric",
    **results: Any,
) -> Path:
    """A run whose image k was predicted `gains[k]` times too large; `first` shifts which truth it is of."""
    (folder / FOLDER).mkdir(parents=True)
    errors = np.array([abs(gain - 1) for gain in gains])
    abs_rel = {"abs_rel": errors, "delta1": (errors < 0.25).astype(np.float64)}
    ImageScores(tuple(ids), np.full(len(ids), 700), np.zeros(len(ids), bool), abs_rel).write(folder / "per_image.csv")
    means = {name: float(values.mean()) for name, values in abs_rel.items()}
    settings = {"model": "Fake", "data": "FakeData", "baseline": {"abs_rel": 0.5, "delta1": 0.2}, **results}
    made = Results(
        metrics=means, protocol=protocol.to_dict(), images=len(ids), skipped=0, baseline_depth=3.0, **settings
    )
    write_results(made, folder / "results.json")
    images = []
    for number in kept:
        sample = sample_of(first + number, ids[number], gains[number], size, camera)
        write_sample(folder / FOLDER, number, sample)
        images.append(KeptImage(ids[number], number, float(errors[number]), number % 2 == 0, number % 2 == 1))
    write_samples(Samples(folder / FOLDER, images, ambiguity, protocol.fingerprint))
    lines = [
        "epoch,step,train/loss_epoch,val/loss,val/abs_rel",
        "0,7,0.9,,",
        "0,7,,0.8,0.5",
        "1,15,0.6,,",
        "1,15,,0.7,0.4",
    ]
    (folder / "metrics.csv").write_text("\n".join(lines) + "\n")
    return folder
