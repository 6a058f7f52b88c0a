"""Learning-rate schedules, always stepped once per optimizer step.

A schedule is settings alone; `build` gives torch's scheduler once the optimizer and the number of steps are known. So a
recipe can say "warm up for 5 % of the run" without knowing how long the run is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, LRScheduler, OneCycleLR

from mde.errors import ConfigError
from mde.rebuild import Rebuildable

__all__ = ["Cyclic", "Milestones", "OneCycle", "PolyDecay", "Schedule", "WarmupCosine"]


class Schedule(Rebuildable, ABC):
    """Base: factors of the optimizer's own learning rate as a function of the step."""

    @abstractmethod
    def factor(self, step: int, total_steps: int) -> float:
        """Learning rate at `step` (from 0) of `total_steps`, as a factor of the optimizer's."""

    def build(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """Return the scheduler, to be stepped after every optimizer step."""
        return LambdaLR(optimizer, lambda step: self.factor(step, total_steps))


class WarmupCosine(Schedule):
    """Linear warm-up, then half a cosine down to `final`.

    Args:
        warmup: share of all steps, in [0, 1).
        final: factor at the last step.

    >>> schedule = WarmupCosine(warmup=0.1)
    >>> [round(schedule.factor(step, 100), 3) for step in (0, 9, 55, 99)]
    [0.1, 1.0, 0.5, 0.0]
    """

    def __init__(self, warmup: float = 0.05, final: float = 0.0) -> None:
        if not 0 <= warmup < 1:
            raise ConfigError(f"warmup is a share of the run in [0, 1), got {warmup}", where="WarmupCosine")
        self.warmup = warmup
        self.final = final

    def factor(self, step: int, total_steps: int) -> float:
        warmup_steps = round(self.warmup * total_steps)
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class PolyDecay(Schedule):
    """(1 - step / total) ** power, the schedule of DeepLab (paper 2: power 0.9).

    >>> PolyDecay(1.0).factor(25, 100)
    0.75
    """

    def __init__(self, power: float = 0.9) -> None:
        self.power = power

    def factor(self, step: int, total_steps: int) -> float:
        return float((1 - min(step / max(total_steps, 1), 1.0)) ** self.power)


class Milestones(Schedule):
    """Constant, times `by` after each milestone.

    Args:
        at: shares of the run, in (0, 1).
        by: factor, above 0.

    >>> schedule = Milestones(at=(0.6, 0.8))  # from epoch 30 and 40 of 50
    >>> [schedule.factor(step, 50) for step in (0, 29, 30, 40, 49)]
    [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    def __init__(self, at: Sequence[float] = (0.6, 0.8), by: float = 0.5) -> None:
        if not all(0 < share < 1 for share in at) or by <= 0:
            what = f"milestones are shares of the run in (0, 1), by a factor above 0, got {list(at)} and {by}"
            raise ConfigError(what, where="Milestones", next_action="30 and 40 of 50 epochs are (0.6, 0.8)")
        self.at, self.by = tuple(float(share) for share in at), float(by)

    def factor(self, step: int, total_steps: int) -> float:
        return self.by ** sum(step >= share * total_steps for share in self.at)


class Cyclic(Schedule):
    """Up and down between the optimizer's learning rate and `peak` times it: torch's CyclicLR, stepped per batch.

    L. N. Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.1. Paper 1's formula is
    "triangular"; its authors ran "triangular2", with 2000 steps up and 2000 down, 1e-3 to 1e-2.

    Args:
        peak: highest learning rate over the optimizer's.
        steps_up: optimizer steps from low to high; as many lead down again.
        mode: "triangular", or "triangular2", which halves the height with every cycle.
        cycle_momentum: move momentum (or Adam's first beta) between 0.9 and 0.8 against the learning rate.

    >>> schedule = Cyclic(peak=10, steps_up=2000, mode="triangular2")
    >>> [schedule.factor(step, 10**5) for step in (0, 1000, 2000, 4000, 6000)]
    [1.0, 5.5, 10.0, 1.0, 5.5]
    """

    def __init__(
        self,
        peak: float = 10.0,
        steps_up: int = 2000,
        mode: Literal["triangular", "triangular2"] = "triangular2",
        cycle_momentum: bool = True,
    ) -> None:
        if peak <= 1 or steps_up < 1 or mode not in ("triangular", "triangular2"):
            what = f"needs a peak above 1, a step and a known mode, got {peak}, {steps_up} and {mode!r}"
            raise ConfigError(what, where="Cyclic", next_action="use triangular or triangular2")
        self.peak, self.steps_up, self.cycle_momentum = float(peak), steps_up, cycle_momentum
        self.mode: Literal["triangular", "triangular2"] = mode

    def factor(self, step: int, total_steps: int) -> float:
        cycle = math.floor(1 + step / (2 * self.steps_up))
        height = max(0.0, 1 - abs(step / self.steps_up - 2 * cycle + 1))
        return 1 + (self.peak - 1) * height * (0.5 ** (cycle - 1) if self.mode == "triangular2" else 1.0)

    def build(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        low = [float(group["lr"]) for group in optimizer.param_groups]
        has_momentum = any(key in optimizer.defaults for key in ("momentum", "betas"))
        return CyclicLR(
            optimizer,
            base_lr=low,
            max_lr=[self.peak * rate for rate in low],
            step_size_up=self.steps_up,
            mode=self.mode,
            cycle_momentum=self.cycle_momentum and has_momentum,
        )


class OneCycle(Schedule):
    """One rise to the optimizer's learning rate and a long fall below: torch's OneCycleLR over the whole run.

    L. N. Smith and N. Topin, "Super-Convergence", 2018; in the two-phase form with half cosines.

    Args:
        rise: share of the run in which the learning rate rises, in (0, 1).
        start: first learning rate over the optimizer's, in (0, 1).
        final: last learning rate over the first.
        cycle_momentum: move momentum (or Adam's first beta) between 0.85 and 0.95 against the learning rate.
    """

    def __init__(
        self, rise: float = 0.3, start: float = 0.04, final: float = 1e-4, cycle_momentum: bool = True
    ) -> None:
        if not (0 < rise < 1 and 0 < start < 1 and final > 0):
            what = f"rise and start are shares in (0, 1) and final above 0, got {rise}, {start} and {final}"
            raise ConfigError(what, where="OneCycle")
        self.rise, self.start, self.final, self.cycle_momentum = rise, start, final, cycle_momentum

    def factor(self, step: int, total_steps: int) -> float:
        top = self.rise * total_steps - 1
        if step <= top:
            return _half_cosine(self.start, 1.0, step / top if top > 0 else 1.0)
        return _half_cosine(1.0, self.start * self.final, (step - top) / (total_steps - 1 - top))

    def build(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        return OneCycleLR(
            optimizer,
            max_lr=[float(group["lr"]) for group in optimizer.param_groups],
            total_steps=total_steps,
            pct_start=self.rise,
            div_factor=1 / self.start,
            final_div_factor=1 / self.final,
            cycle_momentum=self.cycle_momentum and any(k in optimizer.defaults for k in ("momentum", "betas")),
        )


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))
