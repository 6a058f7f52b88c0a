"""Each fault is planted in a clean set of rendered rooms; the doctor must find it, and nothing else that is wrong."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mde.data.writers import SourceFrame, rendered
from mde.doctor import CHECKS
from tests.doctor.conftest import CAMERA, COUNTS, Spoiled
from tests.doctor.planted import ids, noted, only, serious


def test_border_and_grey(data: Spoiled, frames: list[SourceFrame]) -> None:
    for n in range(COUNTS["train"]):
        image = frames[n].image.copy()
        image[:] = image.mean(axis=2, keepdims=True).astype(np.uint8) if n < 3 else image
        for side in (np.s_[:5], np.s_[-5:], np.s_[:, :5], np.s_[:, -5:]):
            image[side] = 255
        data.replace(data.rgb(n), cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    made = data.examine()
    assert set(noted(made, "grey-images").items) == ids(range(3))
    border = noted(made, "border")
    assert set(border.items) == ids(range(COUNTS["train"]))
    assert "5 px wide" in border.message


def test_several_sizes(data: Spoiled) -> None:
    source = rendered("rooms", seed=9)
    frame = source(0, 72, 96, CAMERA)
    data.replace(data.rgb(0), cv2.imencode(".jpg", frame.image[..., ::-1])[1].tobytes())
    raw = (frame.depth * 1000).astype(np.uint16)
    data.replace(data.depth(0), cv2.imencode(".png", raw)[1].tobytes())
    assert "96x72 (1), 128x96 (35)" in noted(data.examine(intrinsics=None), "mixed-sizes").message


def test_copies_in_a_split_and_across(data: Spoiled) -> None:
    for path, other in ((data.rgb(5), data.rgb(2)), (data.depth(5), data.depth(2))):
        data.replace(path, other.read_bytes())
    assert only(data.examine(), "duplicates", "warning").items == ("train/000005",)
    for path, other in ((data.rgb(3, "test"), data.rgb(9)), (data.depth(3, "test"), data.depth(9))):
        data.replace(path, other.read_bytes())
    made = data.examine()
    assert serious(made) == {"duplicates", "leak", "near-duplicates"}
    assert [f.items for f in made.findings if f.code == "leak"] == [("test/000003",)]


def test_near_duplicates_across_splits(data: Spoiled, frames: list[SourceFrame]) -> None:
    brighter = np.clip(frames[7].image * 1.08 + 4, 0, 255).astype(np.uint8)
    data.replace(data.rgb(2, "val"), cv2.imencode(".jpg", brighter[..., ::-1], (1, 70))[1].tobytes())
    data.replace(data.depth(2, "val"), data.depth(7).read_bytes())
    found = only(data.examine(), "near-duplicates", "warning")
    assert found.items == ("val/000002",)
    assert "train/000007" in found.message


def test_an_id_in_two_splits(data: Spoiled) -> None:
    for split, numbers in {"train": range(24), "val": range(20, 24), "test": []}.items():
        lines = [f"train/rgb/{n:06d}.jpg train/depth/{n:06d}.png" for n in numbers]
        lines += [f"test/rgb/{n:06d}.jpg test/depth/{n:06d}.png" for n in range(6)] if split == "test" else []
        (data.root / f"{split}.txt").write_text("\n".join(lines))
    made = data.examine()
    assert serious(made) == {"same-id", "leak", "near-duplicates"}
    found = {f.code: set(f.items) for f in made.findings}
    wanted = {f"train/rgb/{n:06d}" for n in range(20, 24)}
    assert found["same-id"] == found["leak"] == found["near-duplicates"] == wanted


def test_every_code_is_known_and_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text()
    assert [code for code in CHECKS if f"`{code}`" not in text] == []
