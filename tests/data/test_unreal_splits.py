from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.data.unreal.find import UnrealFrame
from mde.data.unreal.splits import SplitRule, split_frames
from mde.errors import ConfigError

PARTS = ("train", "val", "test")


def sequence(place: str, count: int, variants: int = 1) -> list[UnrealFrame]:
    parts = tuple(place.split("/")) if place else ()
    return [
        UnrealFrame(f"{place}/{variant}/{number}", "", "", parts, f"{place}/{number}")
        for number in range(count)
        for variant in range(variants)
    ]


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 60), min_size=3, max_size=14), seed=st.integers(0, 99))
def test_whole_scenes_are_held_out_and_always_the_same(sizes: list[int], seed: int) -> None:
    frames = [frame for scene, size in enumerate(sizes) for frame in sequence(f"scene{scene}", size)]
    parts, told = split_frames(frames, SplitRule())
    places = {part: {frame.place for frame in parts[part]} for part in PARTS}
    assert sum(map(len, places.values())) == len(set().union(*places.values())) == len(sizes)  # none in two parts
    assert all(places.values())
    assert sum(map(len, parts.values())) == len(frames)
    assert {place[0] for place in places["val"]} == set(told["val"])
    assert {place[0] for place in places["test"]} == set(told["test"])
    left = {f"scene{scene}": size for scene, size in enumerate(sizes)}
    for part in ("test", "val"):  # about a tenth of the frames, or else the smallest scene that is left
        chosen = [left.pop(name) for name in told[part]]
        assert sum(chosen) < 0.1 * len(frames) + max(chosen) / 2 or (
            len(chosen) == 1 and chosen[0] <= min(left.values())
        )
    shuffled = random.Random(seed).sample(frames, len(frames))
    assert split_frames(shuffled, SplitRule())[1] == told


@settings(max_examples=60, deadline=None)
@given(count=st.integers(20, 900), variants=st.integers(1, 3), guard=st.one_of(st.none(), st.integers(0, 4)))
def test_one_sequence_is_cut_with_all_variants_of_a_moment_together(
    count: int, variants: int, guard: int | None
) -> None:
    parts, told = split_frames(sequence("Town01", count, variants), SplitRule(guard=guard))
    moments = {part: {int(frame.moment.rpartition("/")[2]) for frame in parts[part]} for part in PARTS}
    dropped = told["guard"]
    assert dropped == (min(10, count // 50) if guard is None else guard)
    assert max(moments["train"]) + dropped < min(moments["val"])
    assert max(moments["val"]) + dropped < min(moments["test"])
    assert len(moments["test"]) == round(0.1 * count)
    assert all(len(parts[part]) == variants * len(moments[part]) for part in PARTS)
    assert sum(map(len, moments.values())) == count - 2 * dropped


def test_the_coarsest_level_with_three_scenes_is_taken() -> None:
    one_town = [f for run in range(4) for f in sequence(f"Town01/run{run}", 5)]
    parts, told = split_frames(one_town, SplitRule())
    assert told["by"] == "whole scenes, level 2"
    towns = [f for town in range(3) for run in range(4) for f in sequence(f"Town0{town}/run{run}", 5)]
    parts, told = split_frames(towns, SplitRule())
    assert told["by"] == "whole scenes, level 1"
    assert [len(parts[part]) for part in PARTS] == [20, 20, 20]


def test_a_new_scene_leaves_the_order_of_the_others() -> None:
    # scenes are ordered by the hash of their names: the alphabet and the disk decide nothing
    frames = [f for scene in range(30) for f in sequence(f"s{scene:02d}", 10)]
    _, before = split_frames(frames, SplitRule())
    _, after = split_frames([f for f in frames if f.place[0] != "s00"], SplitRule())
    kept = set(before["val"]) | set(before["test"])
    assert len(kept) == 6
    assert len(kept & (set(after["val"]) | set(after["test"]))) >= 4


def test_named_scenes() -> None:
    frames = [f for scene in ("01", "02", "06") for w in ("clone", "fog") for f in sequence(f"{scene}/{w}", 2)]
    parts, told = split_frames(frames, SplitRule(val_scenes=("02",), test_scenes=("06/fog",)))
    assert {f.place for f in parts["val"]} == {("02", "clone"), ("02", "fog")}
    assert {f.place for f in parts["test"]} == {("06", "fog")}
    assert len(parts["train"]) == 6
    assert told == {"by": "named scenes", "val": ["02"], "test": ["06/fog"]}
    assert not split_frames(frames, SplitRule(val_scenes=("02",)))[0]["test"]
    with pytest.raises(ConfigError, match=r"no frames of 03.*nearest"):
        split_frames(frames, SplitRule(val_scenes=("03",)))
    with pytest.raises(ConfigError, match="no folders of scenes"):
        split_frames(sequence("", 5), SplitRule(val_scenes=("03",)))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"val_fraction": 0.6, "test_fraction": 0.5}, "sum to less than 1"),
        ({"val_fraction": 0.0}, "above 0"),
        ({"guard": -1}, "guard >= 0"),
        ({"test_scenes": ("a",)}, "give both"),
        ({"val_scenes": ("a",), "test_scenes": ("a",)}, "name each scene once"),
    ],
)
def test_rules_that_cannot_hold_are_refused(rule: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        SplitRule(**rule)  # type: ignore[arg-type]
