"""Each fault is planted in a clean set of rendered rooms; the doctor must find it, and nothing else that is wrong."""

from __future__ import annotations

import cv2
import numpy as np

from tests.doctor.conftest import ALL, COUNTS, Spoiled
from tests.doctor.planted import ids, only, serious


def test_a_clean_set_has_nothing(data: Spoiled) -> None:
    made = data.examine()
    assert serious(made) == set()
    assert {f.code for f in made.findings} <= {"few-frames"}
    assert made.tally.decoded == COUNTS
    assert {split: len(dataset) for split, dataset in made.datasets.items()} == COUNTS


def test_unpaired(data: Spoiled) -> None:
    data.rgb(3).unlink()
    data.depth(5, "val").unlink()
    made = data.examine()
    found = only(made, "unpaired")
    assert set(found.items) == {"train/depth/000003.png", "val/rgb/000005.jpg"}
    assert made.tally.decoded == {"train": 23, "val": 5, "test": 6}  # the others were examined all the same


def test_files_that_a_list_names(data: Spoiled) -> None:
    for split, count in COUNTS.items():
        lines = [f"{split}/rgb/{n:06d}.jpg {split}/depth/{n:06d}.png" for n in range(count)]
        (data.root / f"{split}.txt").write_text("\n".join(lines))
    gone = [data.rgb(1), data.depth(2), *(data.depth(n) for n in range(4, 20))]
    for path in gone:
        path.unlink()
    found = only(data.examine(sample=3), "missing-files")
    assert set(found.items) == {str(path.relative_to(data.root)) for path in gone}


def test_empty_and_truncated_files(data: Spoiled) -> None:
    bad = [data.rgb(0), data.rgb(7), data.depth(9), data.depth(1, "test")]
    for path, keep in zip(bad, (0.5, 0.0, 0.9, 0.0), strict=True):
        whole = path.read_bytes()
        data.replace(path, whole[: int(keep * len(whole))])
    found = only(data.examine(sample=3), "dead-files")
    assert set(found.items) == {str(path.relative_to(data.root)) for path in bad}


def test_rubbish_under_the_name_of_a_picture(data: Spoiled) -> None:
    data.replace(data.rgb(4), b"<html>not found</html>")
    assert only(data.examine(sample=3), "dead-files").items == ("train/rgb/000004.jpg",)


def test_depth_as_jpeg(data: Spoiled) -> None:
    for split, count in COUNTS.items():
        for n in range(count):
            data.depth(n, split).unlink()
            small = np.full((96, 128), n + 1, np.uint8)
            data.depth(n, split).with_suffix(".jpg").write_bytes(cv2.imencode(".jpg", small)[1].tobytes())
    found = only(data.examine(sample=3), "depth-jpeg")
    assert found.count == ALL


def test_a_jpeg_that_is_called_png(data: Spoiled) -> None:
    data.replace(data.depth(2), cv2.imencode(".jpg", np.full((96, 128), 9, np.uint8))[1].tobytes())
    assert "train/depth/000002.png" in only(data.examine(sample=3), "depth-jpeg").items


def test_a_coloured_picture_of_the_depth(data: Spoiled) -> None:
    data.change(lambda raw: cv2.applyColorMap((raw // 40).astype(np.uint8), cv2.COLORMAP_JET), only=(2, 11))
    found = only(data.examine(), "depth-colour")
    assert set(found.items) == ids((2, 11))
    assert "3 channels" in found.message


def test_sizes_differ(data: Spoiled) -> None:
    data.change(lambda raw: raw[::2, ::2], only=(3, 4))
    found = only(data.examine(), "size-mismatch")
    assert set(found.items) == ids((3, 4))
    assert "image 128x96, depth 64x48" in found.message
