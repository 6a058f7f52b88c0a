"""Which frames are for training, validation and test."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from mde.errors import ConfigError, DataFormatError

__all__ = [
    "CHUNK_STARTS",
    "NYU_FRAMES",
    "NYU_TEST_FRAMES",
    "held_out",
    "official_test_rows",
    "paper0_rows",
    "room_of",
    "split_rows",
]

NYU_FRAMES = 1449
NYU_TEST_FRAMES = 654
VAL_SHARE = 0.1  # of the official training part; the authors define no validation part
CHUNK_STARTS = tuple(range(0, 35_000, 5_000))
"""First rows of the seven chunks of paper 0 (compare.ipynb of its authors); the last one runs to the end."""

# testNdxs of the authors' splits.mat: 654 frame numbers, counted from 1; the other 795 are for training
_TEST_FRAMES = """
    1-2 9 14-18 21 28-43 46-47 56-57 59-63 76-79 84-91 117-119 125-129 131-134 137 153-155 167-169 171-176 180-202
    207-212 220-222 250 264 271-273 279-285 296-302 310-312 315-317 325-335 351-352 355-364 384-390 395-397 411-414
    430-435 441-448 462-466 469-477 508-513 515-526 531-533 537-539 549-551 555-571 579-583 591-594 603-607 612-613
    617-621 633-638 644-645 650-651 656-658 663-664 668-673 676-681 686-690 693-694 697-699 706-713 717-718 724-728
    731-734 743-744 759-787 800-804 810-814 821-823 833-846 850-852 857-862 869-871 906-908 917-919 926-928 932-935
    945-947 959-962 965-967 970-977 991-995 1001-1004 1010-1012 1021-1023 1032-1034 1038-1039 1048-1049 1052-1053
    1057-1058 1075-1084 1088-1096 1098-1104 1106-1109 1117-1119 1123-1131 1135-1136 1144-1158 1162-1167 1170-1171
    1174-1176 1179-1184 1192-1196 1201-1212 1216-1220 1226-1230 1233-1235 1247-1250 1254-1265 1275-1280 1285-1295
    1297-1299 1302-1308 1314-1315 1329-1332 1335-1340 1347-1349 1353-1356 1364-1365 1368-1369 1384-1391 1394-1401
    1407-1414 1421-1424 1430-1433 1441-1449
"""


def official_test_rows() -> list[int]:
    """Rows (from 0) of the 654 official test frames.

    >>> rows = official_test_rows()
    >>> len(rows), rows[:3], rows[-1]
    (654, [0, 1, 8], 1448)
    """
    spans = [[int(number) for number in span.split("-")] for span in _TEST_FRAMES.split()]
    return [frame - 1 for span in spans for frame in range(span[0], span[-1] + 1)]


def split_rows(
    split: str,
    scheme: str,
    scenes: Sequence[str],
    *,
    val_on_test: bool = False,
    test_rows: Sequence[int] | None = None,
) -> list[int]:
    """Rows (from 0) of a split of the labelled set.

    Args:
        split: "train", "val" or "test".
        scheme: "official": the authors' 795 training and 654 test frames; validation takes whole rooms of the
            training part, some 10 % of its frames, because neighbours of one scene in both would leak. "paper3": frames
            1 to 1000, the next 224 and the last 225 in the order of the file, which mixes official training and test.
        scenes: name of the scene of each row.
        val_on_test: validate on the test part and train on all 795, as much of the literature does.
        test_rows: default the authors'; a made set has its own.

    Raises:
        ConfigError: the split or the scheme is unknown.
    """
    if split not in ("train", "val", "test") or scheme not in ("official", "paper3"):
        what = f"unknown split {split!r} of {scheme!r}"
        raise ConfigError(what, where="data.split", next_action="use official or paper3")
    if scheme == "paper3":
        # a made set has fewer frames, in the same proportions
        val, test = (max(1, round(part / NYU_FRAMES * len(scenes))) for part in (224, 225))
        bounds = (0, len(scenes) - test - val, len(scenes) - test, len(scenes))
        part = ("train", "val", "test").index("test" if val_on_test and split == "val" else split)
        return list(range(bounds[part], bounds[part + 1]))
    test_part = official_test_rows() if test_rows is None else list(test_rows)
    if split == "test" or (split == "val" and val_on_test):
        return test_part
    train = sorted(set(range(len(scenes))) - set(test_part))
    chosen = set() if val_on_test else held_out(train, scenes)
    return [row for row in train if (row in chosen) == (split == "val")]


def held_out(rows: Sequence[int], scenes: Sequence[str]) -> set[int]:
    """About a tenth of the rows as whole rooms, spread evenly over the data set; the same ones every time.

    Args:
        rows: training rows in order.
        scenes: name of the scene of each row of the data set.

    Raises:
        DataFormatError: all rows are of one room, so that validation would see what was trained on.
    """
    rooms: dict[str, list[int]] = {}
    for row in rows:
        rooms.setdefault(room_of(scenes[row]), []).append(row)
    if len(rooms) < 2:
        what = f"the {len(rows)} training frames are of {len(rooms)} scene: none can be held out for validation"
        raise DataFormatError(what, next_action="add scenes, or set data.val_on_test")
    seen = 0
    chosen: list[int] = []
    for members in rooms.values():
        seen += len(members)
        if len(chosen) + len(members) / 2 <= VAL_SHARE * seen:
            chosen += members
    return set(chosen or members)  # a made set is too small for a tenth: its last room


def room_of(scene: str) -> str:
    """The room that a scene shows: several walks through one room have letters, copies have ``_out`` behind them.

    >>> {room_of(name) for name in ("kitchen_0028a", "kitchen_0028b", "kitchen_0028b_out")}
    {'kitchen_0028'}
    """
    return re.sub(r"(?<=\d)[a-z]+$", "", scene.removesuffix("_out"))


def paper0_rows(count: int, split: str, chunks: Sequence[int] | None = None) -> list[int]:
    """Rows (from 0) of a split of paper 0: 90, 9 and 1 % in the order of the csv file, without shuffling.

    As ``train_test_split(test_size=0.1, shuffle=False)`` of scikit-learn, twice; its test part is the ceiling of a
    tenth. The order is that of the scenes, hence one scene lies on both sides of each boundary.

    Args:
        count: rows of the csv file.
        split: "train", "val" or "test".
        chunks: numbers from 0 to 6: the chunks of 5,000 rows (the last: 20,688) that the authors trained on one after
            the other, each split by itself. None: all rows as one.

    >>> [len(paper0_rows(50_688, split)) for split in ("train", "val", "test")]
    [45619, 4562, 507]
    >>> len(paper0_rows(50_688, "test", chunks=[0]))
    50

    Raises:
        ConfigError: there is no such split or chunk.
    """
    if split not in ("train", "val", "test"):
        raise ConfigError(f"unknown split {split!r} of 'paper0'", next_action="use train, val or test")
    ends = (*CHUNK_STARTS[1:], count)
    spans = [(0, count)]
    if chunks is not None:
        wrong = [chunk for chunk in chunks if chunk not in range(len(CHUNK_STARTS)) or CHUNK_STARTS[chunk] >= count]
        if wrong or not chunks or len(set(chunks)) < len(chunks):
            what = f"chunks are different numbers from 0 to 6 of a csv file with enough rows, got {list(chunks)}"
            raise ConfigError(f"{what} for {count} rows", where="data.chunks")
        spans = [(CHUNK_STARTS[chunk], min(ends[chunk], count)) for chunk in sorted(chunks)]
    rows: list[int] = []
    for start, end in spans:
        middle = end - math.ceil(0.1 * (end - start))
        last = end - math.ceil(0.1 * (end - middle))
        bounds = {"train": (start, middle), "val": (middle, last), "test": (last, end)}
        rows += range(*bounds[split])
    return rows
