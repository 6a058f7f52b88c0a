"""Learning-rate schedules, always stepped once per optimizer step.

A schedule is settings alone; `build` gives torch's scheduler once the optimizer and the number of steps are known. So a
recipe can say "warm up for 5 % of the run" without knowing how long the run is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mde.errors import ConfigError
from mde.rebuild import Rebuildable

__all__ = ["PolyDecay", "Schedule", "WarmupCosine"]


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
