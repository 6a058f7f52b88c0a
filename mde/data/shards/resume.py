"""A training loader that can be stopped within an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader

from mde.data.base import SeededSampler
from mde.data.loading import DepthLoader
from mde.errors import ConfigError
from mde.types import Batch

__all__ = ["ResumableLoader"]


class _ResumableSampler(SeededSampler):
    """A `SeededSampler` whose next pass leaves out what was seen."""

    seen = 0

    def __iter__(self) -> Iterator[int]:
        seen, self.seen = self.seen, 0
        return islice(super().__iter__(), seen, None)


class ResumableLoader(DepthLoader):
    """A loader that Lightning can stop within an epoch: a checkpoint holds how many batches were handed out.

    Lightning stores the state of every loader that has `state_dict` and `load_state_dict` (its fit loop). The order
    itself needs no state: it comes from (seed, epoch).
    """

    handed_out = 0

    @classmethod
    def of(cls, loader: DataLoader[Batch]) -> ResumableLoader:
        """The same loader, resumable; its sampler is a `SeededSampler`."""
        given = loader.sampler
        if not isinstance(given, SeededSampler):
            raise ConfigError(f"a {type(given).__name__} cannot be resumed", next_action="use a SeededSampler")
        sampler = _ResumableSampler(given.dataset, given.seed)  # type: ignore[arg-type]
        sampler.set_epoch(given.epoch)
        return cls(
            loader.dataset,
            batch_size=loader.batch_size,
            sampler=sampler,
            drop_last=loader.drop_last,
            num_workers=loader.num_workers,
            pin_memory=loader.pin_memory,
            persistent_workers=loader.persistent_workers,
            collate_fn=loader.collate_fn,
            generator=loader.generator,
        )

    def __iter__(self) -> Any:
        seen = self.sampler.seen if isinstance(self.sampler, _ResumableSampler) else 0
        self.handed_out = seen // (self.batch_size or 1)
        return self._count(super().__iter__())

    def _count(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            self.handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Batches handed out in this epoch, and what must be the same for that to mean anything."""
        return {"batches": self.handed_out % max(1, len(self)), **self._settings()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Leave out in the next epoch what was handed out.

        Raises:
            ConfigError: batch size or number of processes differ, and the batches would be others.
        """
        settings = {key: state[key] for key in self._settings()}
        if state["batches"] and settings != self._settings():
            what = f"the checkpoint was made within an epoch with {settings}, now it is {self._settings()}"
            hint = "keep them, or go on from a checkpoint of the end of an epoch"
            raise ConfigError(what, where="data.batch_size", next_action=hint)
        if isinstance(self.sampler, _ResumableSampler):
            self.sampler.seen = state["batches"] * (self.batch_size or 1)

    def _settings(self) -> dict[str, Any]:
        ranks = self.sampler.num_replicas if isinstance(self.sampler, SeededSampler) else 1
        return {"batch_size": self.batch_size, "processes": ranks}
