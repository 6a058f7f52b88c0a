"""Paper 0's split of DenseDepth's set, against the rule of scikit-learn written down anew."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mde.data.nyu import paper0_rows
from mde.errors import ConfigError

SPLITS = ("train", "val", "test")


def test_paper0_is_two_unshuffled_splits_of_a_tenth() -> None:
    def reference(rows: np.ndarray) -> list[np.ndarray]:
        parts = []
        for _ in range(2):
            test = math.ceil(0.1 * len(rows))  # scikit-learn: ceil(test_size * n), and training is the rest
            parts.append(rows[: len(rows) - test])
            rows = rows[len(rows) - test :]
        return [*parts, rows]

    rows = np.arange(50_688)
    whole = [paper0_rows(50_688, split) for split in SPLITS]
    assert [len(part) for part in whole] == [45_619, 4_562, 507]
    assert all(np.array_equal(a, b) for a, b in zip(whole, reference(rows), strict=True))
    assert np.array_equal(np.concatenate(whole), rows)
    chunks = np.split(rows, range(5_000, 35_000, 5_000))
    assert [len(chunk) for chunk in chunks] == [5_000] * 6 + [20_688]
    for number, chunk in enumerate(chunks):
        own = [paper0_rows(50_688, split, [number]) for split in SPLITS]
        assert all(np.array_equal(a, b) for a, b in zip(own, reference(chunk), strict=True))
        assert len(own[2]) == (50 if number < 6 else 207)
    every = {split: paper0_rows(50_688, split, range(7)) for split in SPLITS}
    assert [len(every[split]) for split in SPLITS] == [45_619, 4_562, 507]
    assert sorted(row for part in every.values() for row in part) == rows.tolist()
    assert every["test"] != whole[2]


@pytest.mark.parametrize("chunks", [[], [7], [-1], [0, 0]])
def test_wrong_chunks(chunks: list[int]) -> None:
    with pytest.raises(ConfigError, match="numbers from 0 to 6"):
        paper0_rows(50_688, "train", chunks)
    with pytest.raises(ConfigError, match="for 100 rows"):
        paper0_rows(100, "train", [1])
