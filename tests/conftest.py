"""Settings of the whole suite. They are made before torch is imported."""

from __future__ import annotations

import os

for name, value in {"GOMP_SPINCOUNT": "3000", "NO_ALBUMENTATIONS_UPDATE": "1"}.items():
    os.environ.setdefault(name, value)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
