"""Runs with known errors per image, for tests of what reads and compares them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mde.protocol import get_protocol
from mde.report.results import Results, add_intervals, write_results
from mde.report.runs import ScoredRun
from mde.report.scores import CONSTANT_FILE, FILE, ImageScores

IMAGES = 24
HARD = np.random.default_rng(7).gamma(2.0, 0.05, IMAGES)


def image_scores(factor: float, noise: int = 0) -> ImageScores:
    wobble = np.random.default_rng(noise).uniform(0.8, 1.2, (3, IMAGES))
    values = {
        "abs_rel": factor * HARD * wobble[0],
        "rmse": 5 * factor * HARD * wobble[1],
        "delta1": np.clip(1 - 2 * factor * HARD * wobble[2], 0, 1),
    }
    return ImageScores(tuple(f"i{n}" for n in range(IMAGES)), np.full(IMAGES, 9), np.zeros(IMAGES, bool), values)


CONSTANT = image_scores(4.0, 99)


def results(scores: ImageScores, **changed: Any) -> Results:
    means, constants = (
        {name: float(column.mean()) for name, column in each.values.items()} for each in (scores, CONSTANT)
    )
    made = Results(
        metrics=means, baseline=constants, baseline_depth=2.0, protocol=get_protocol("rooms").to_dict(), images=IMAGES,
        skipped=0, model="UNet", data="Rooms", data_facts={"world": "rooms", "scenes": {"train": 9, "test": IMAGES}},
        parameters={"total": 1_239_381, "trainable": 12}, weights_hash="ab" * 32, images_per_second=12.345,
    )  # fmt: skip
    add_intervals(made, scores, CONSTANT)
    return replace(made, **changed)


def scored(name: str, factor: float = 1.0, noise: int = 0, **changed: Any) -> ScoredRun:
    scores = image_scores(factor, noise)
    return ScoredRun(name, f"runs/{name}", results(scores, **changed), scores)


def trio() -> list[ScoredRun]:
    return [scored("good", 0.8, 1), scored("middle", 1.0, 2), scored("bad", 1.5, 3)]


def write_run(folder: Path, factor: float = 1.0, noise: int = 0, **changed: Any) -> Path:
    folder.mkdir(parents=True)
    scores = image_scores(factor, noise)
    scores.write(folder / FILE)
    CONSTANT.write(folder / CONSTANT_FILE)
    write_results(results(scores, **changed), folder / "results.json")
    return folder
