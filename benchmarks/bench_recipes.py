"""What the recipes of the embedded worlds cost: the table of docs/methods.md compares them at equal training time.

Steps of all recipes are timed in turn on one thread; a recipe's cost is its median step times the steps of its run.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import yaml

from benchmarks.harness import Row, parser, report
from mde.cli.experiments import resolve
from mde.cli.sweep_plan import read_plan
from mde.cli.train import DepthCLI

TOLERANCE = 0.15


class Built(DepthCLI):
    """The network and the data of a recipe, and no run."""

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """None is needed."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Nothing is run."""


def scenes(data: dict[str, Any], prefix: str = "data") -> dict[str, int]:
    """Each setting of a number of training pictures with its value: one, or one for each part of a mixture."""
    settings: dict[str, Any] = data["init_args"]
    if "parts" not in settings:
        return {f"{prefix}.train_scenes": settings["train_scenes"]}
    parts = [scenes(part, f"{prefix}.parts.{name}.init_args") for name, part in settings["parts"].items()]
    return {flag: count for part in parts for flag, count in part.items()}


def recipe_step(name: str, images: int) -> tuple[Callable[[], float], float]:
    """A function that takes one training step and returns its CPU seconds, and how many steps the recipe takes."""
    path = resolve(name)
    recipe = yaml.safe_load(path.read_text())
    counts = scenes(recipe["data"])
    built = Built(["fit", "--config", str(path), *(f"--{flag}={images}" for flag in counts)], run_name="bench")
    model, data = built.model.train(), built.datamodule
    data.setup("fit")
    batches = itertools.cycle(list(data.train_dataloader()))
    optimizer = model.optimizer_factory(model.parameters())

    def step() -> float:
        batch = next(batches)
        start = time.process_time()
        loss = model.training_loss(batch).loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return time.process_time() - start

    return step, sum(counts.values()) / data.batch_size * recipe["trainer"]["max_epochs"]


def main() -> int:
    options = parser(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    turns, images = (2, 16) if options.quick else (60, 64)
    names = list(read_plan("methods").recipes)[:: 4 if options.quick else 1]
    recipes = {name: recipe_step(name, images) for name in names}
    times: dict[str, list[float]] = {name: [] for name in recipes}
    for turn in range(turns + 1):
        for name, (step, _) in recipes.items():
            seconds = step()
            if turn:
                times[name].append(seconds)
    costs = {name: statistics.median(times[name]) * steps for name, (_, steps) in recipes.items()}
    middle = statistics.median(costs.values())
    rows = [
        Row(
            name,
            "the median recipe",
            cost / middle,
            goal=1 + TOLERANCE,
            note=f"{recipes[name][1]:.0f} steps of {1000 * cost / recipes[name][1]:.1f} ms",
        )
        for name, cost in costs.items()
    ]
    return report("recipes", rows, quick=options.quick)


if __name__ == "__main__":
    sys.exit(main())
