"""The procedural data: exact depth against closed forms in float64, determinism, culling, no depth in the colour."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.data.procedural import ProceduralDataModule, ProceduralDataset
from mde.data.transforms import EvalTransform
from mde.data.worlds import light, make_scene, pool, raycast
from mde.data.worlds.raycast import Camera, render
from mde.data.worlds.scene import ROOM, Frame, Light, Material, SceneBuilder, Sky
from mde.data.worlds.texture import noise, pulse
from mde.errors import ConfigError
from mde.geometry import unproject
from tests.data.contract import DataModuleContract

H, W = 37, 51  # no multiples of the tile
K = np.array([[45.0, 0, 24.0], [0, 47.0, 19.0], [0, 0, 1]])
WORLDS = ("rooms", "street")
ROOT = Path(__file__).parents[2]

angles = st.floats(-0.5, 0.5)
seeds = st.integers(0, 2**32 - 1)


def _dataset(world: str, split: str = "train", length: int = 3, seed: int = 0) -> ProceduralDataset:
    return ProceduralDataset(world, split, length, 24, 32, EvalTransform((24, 32)), seed)


def _rays(camera: Camera) -> np.ndarray:
    """World directions with unit depth, float64 (H,W,3), written out pixel by pixel."""
    v, u = np.mgrid[0:H, 0:W]
    (fx, _, cx), (_, fy, cy) = camera.intrinsics[:2]
    return np.stack(((u - cx) / fx, (v - cy) / fy, np.ones((H, W))), -1) @ camera.rotation.T


def _camera(heading: float = 0.0, pitch: float = 0.0, roll: float = 0.0, at: tuple[float, ...] = (0, 0, 1.5)) -> Camera:
    return Camera.aimed(K, at, heading=heading, pitch=pitch, roll=roll)


def _depth(build_scene: SceneBuilder, camera: Camera) -> np.ndarray:
    image, depth, valid = render(build_scene.scene(), camera, H, W)
    assert image.shape == (H, W, 3)
    assert image.dtype == np.uint8
    assert np.array_equal(valid, depth > 0)
    return depth


def _agree(depth: np.ndarray, expected: np.ndarray, atol: float = 2e-4) -> None:
    """Equal but for silhouettes, where one ulp decides."""
    expected = np.where(np.isfinite(expected), expected, 0)
    both = (depth > 0) & (expected > 0)
    assert np.count_nonzero((depth > 0) != (expected > 0)) <= 2
    assert both.sum() > 20
    # a ray that grazes a round edge turns a rounding error into a square root of it
    assert np.quantile(np.abs(depth - expected)[both], 0.98) < atol


# --------------------------------------------------------------------------------------------------------- exact depth


@given(angles, angles, angles)
@settings(max_examples=15, deadline=None)
def test_rotation_is_orthonormal_and_right_handed(heading: float, pitch: float, roll: float) -> None:
    rotation = _camera(heading, pitch, roll).rotation
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    expected = [math.sin(heading) * math.cos(pitch), math.cos(heading) * math.cos(pitch), math.sin(pitch)]
    np.testing.assert_allclose(rotation[:, 2], expected, atol=1e-12)


@given(angles, angles, angles, st.floats(0.5, 3.0))
@settings(max_examples=15, deadline=None)
def test_depth_of_a_plane(heading: float, pitch: float, roll: float, height: float) -> None:
    scene = SceneBuilder()
    scene.box((0, 0, -1), (1e4, 1e4, 2), scene.material(Material()))
    camera = _camera(heading, pitch - 0.3, roll, (0, 0, height))
    depth = _depth(scene, camera)
    down = _rays(camera)[..., 2]
    with np.errstate(divide="ignore"):
        expected = -height / down
    seen = (down < 0) & (expected < 500)
    np.testing.assert_allclose(depth[seen], expected[seen], rtol=2e-5)
    assert not depth[down >= 0].any()


@given(angles, angles, st.floats(0.3, 1.0), st.floats(2.5, 30.0))
@settings(max_examples=15, deadline=None)
def test_depth_of_a_sphere(heading: float, roll: float, radius: float, away: float) -> None:
    radius *= away / 4
    scene, camera = SceneBuilder(), _camera(heading, 0.1, roll)
    center = camera.position + away * camera.rotation @ np.array([0.1, -0.05, 1.0])
    scene.sphere(tuple(center), radius, scene.material(Material()))
    d, o = _rays(camera), camera.position - center
    a, b, c = (d * d).sum(-1), 2 * (d @ o), o @ o - radius**2
    root = np.sqrt(np.where(b * b >= 4 * a * c, b * b - 4 * a * c, np.nan))
    _agree(_depth(scene, camera), (-b - root) / (2 * a), atol=1e-4 * away)


@given(angles, angles, st.floats(-3, 3), st.booleans())
@settings(max_examples=20, deadline=None)
def test_depth_of_a_turned_box_and_of_a_room(heading: float, roll: float, yaw: float, inside: bool) -> None:
    size = np.array([6.0, 8.0, 4.0] if inside else [1.2, 0.8, 1.5])
    center = np.array([0.3, 0.2, 1.4] if inside else [0.2, 4.0, 1.2])
    scene, camera = SceneBuilder(), _camera(heading * 0.3, 0.05, roll)
    scene.box(center, size, scene.material(Material()), yaw=yaw, kind=ROOM if inside else 0)
    turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    d, o = _rays(camera) @ turn, (camera.position - center) @ turn
    hits = []
    for axis in range(3):  # meet each of the six planes, and keep what lies on the face
        for sign in (-1, 1):
            t = (sign * size[axis] / 2 - o[axis]) / (d[..., axis] + 1e-12)
            point = o + t[..., None] * d
            others = [i for i in range(3) if i != axis]
            hits.append(np.where((t > 0) & (np.abs(point[..., others]) <= size[others] / 2).all(-1), t, np.inf))
    _agree(_depth(scene, camera), np.min(hits, 0))


@given(angles, angles, st.booleans())
@settings(max_examples=15, deadline=None)
def test_depth_of_an_upright_cylinder_and_of_a_wheel(heading: float, roll: float, upright: bool) -> None:
    radius, length = 0.7, 1.1
    center = np.array([0.1, 3.5, 0.8])
    scene, camera = SceneBuilder(), _camera(heading * 0.3, -0.15, roll)
    paint = scene.material(Material())
    if upright:
        scene.cylinder((*center[:2], center[2] - length / 2), radius, length, paint)
    else:
        scene.wheel(center, radius, length, paint, Frame())
    order = [0, 1, 2] if upright else [1, 2, 0]  # the axis last
    d, o = _rays(camera)[..., order], (camera.position - center)[order]
    a, b, c = (d[..., :2] ** 2).sum(-1), 2 * d[..., :2] @ o[:2], o[:2] @ o[:2] - radius**2
    root = np.sqrt(np.where(b * b >= 4 * a * c, b * b - 4 * a * c, np.nan))
    side = (-b - root) / (2 * a)
    side = np.where(np.abs(o[2] + side * d[..., 2]) <= length / 2, side, np.inf)
    hits = [side]
    for cap in (-length / 2, length / 2):
        t = (cap - o[2]) / (d[..., 2] + 1e-12)
        on = ((o[:2] + t[..., None] * d[..., :2]) ** 2).sum(-1) <= radius**2
        hits.append(np.where((t > 0) & on, t, np.inf))
    _agree(_depth(scene, camera), np.nanmin(hits, 0))


def test_unprojected_floor_is_a_plane() -> None:
    scene = SceneBuilder()
    scene.box((0, 0, -1), (100, 100, 2), scene.material(Material()))
    camera = _camera(0.2, -0.4, 0.1)
    depth = _depth(scene, camera)
    points = unproject(torch.from_numpy(depth)[None, None], torch.from_numpy(K)[None].float())[0].numpy()
    world = np.tensordot(camera.rotation, points, 1) + camera.position[:, None, None]
    assert np.abs(world[2][depth > 0]).max() < 1e-4


def test_stereo_pair_of_a_wall_is_shifted_by_its_disparity() -> None:
    scene, paint = SceneBuilder(), Material(second=(0.05, 0.1, 0.4), cell=(0.3, 0.2), gap=(0.1, 0.08), tint=0.3)
    scene.box((0, 3.5, 0), (40, 1, 40), scene.material(paint))
    left = _camera()
    baseline = 4 * 3.0 / K[0, 0]  # four pixels at three metres
    (a, depth_a, _), (b, depth_b, _) = (render(scene.scene(), c, H, W) for c in (left, left.moved(right=baseline)))
    np.testing.assert_allclose(depth_a, 3.0, rtol=1e-5)
    np.testing.assert_allclose(depth_b, 3.0, rtol=1e-5)
    difference = np.abs(a[:, 4:].astype(int) - b[:, :-4].astype(int))
    assert difference.max() <= 2
    assert np.ptp(a[..., 0]) > 50


def test_two_views_of_a_room_agree_on_its_points() -> None:
    scene, camera = make_scene("rooms", np.random.default_rng(5), H, W)
    other = camera.moved(right=0.05)
    (_, near, _), (_, far, _) = (render(scene, c, H, W) for c in (camera, other))
    points = camera.position + near[..., None] * _rays(Camera(camera.intrinsics, camera.rotation, camera.position))
    seen = (points - other.position) @ other.rotation
    pixel = np.rint(seen @ camera.intrinsics.T / seen[..., 2:])[..., :2].astype(int)
    inside = ((pixel >= 0) & (pixel < (W, H))).all(-1)
    found = far[pixel[inside][:, 1], pixel[inside][:, 0]]
    assert np.median(np.abs(found / seen[..., 2][inside] - 1)) < 0.02


# ---------------------------------------------------------------------------------------------------- colour and light


def test_textureless_scene_under_ambient_light_has_one_colour() -> None:
    scene = SceneBuilder()
    white = scene.material(Material(base=(0.8, 0.8, 0.8)))
    scene.box((0, 0, 2), (20, 60, 4), white, kind=ROOM)
    scene.sphere((0.5, 3, 1), 0.5, white)
    scene.cylinder((-1, 6, 0), 0.3, 2, white)
    image, depth, valid = render(scene.scene(ambient=(0.5, 0.5, 0.5)), _camera(), H, W)
    assert np.ptp(depth) > 10
    assert valid.all()
    assert np.unique(image).size == 1
    assert image[0, 0, 0] == round(255 * (1.055 * 0.4 ** (1 / 2.4) - 0.055))


def test_light_falls_off_from_the_lamp_and_not_from_the_camera() -> None:
    scene = SceneBuilder()
    scene.box((0, 5.5, 1.5), (40, 1, 40), scene.material(Material(base=(1, 1, 1))))
    centre = {}
    for power, away in ((4.0, 2.0), (1.0, 1.0), (4.0, 4.0)):
        lit = scene.scene([Light((0, 5 - away, 1.5), (power,) * 3)], ambient=(0, 0, 0))
        for y in (0.0, 2.5):
            centre[power, away, y] = render(lit, _camera(at=(0, y, 1.5)), H, W)[0][19, 24, 0]
    assert centre[4.0, 2.0, 0.0] == centre[4.0, 2.0, 2.5]
    assert centre[4.0, 2.0, 0.0] == centre[1.0, 1.0, 0.0] == 255
    # irradiance 4 / 4^2 = 0.25 in sRGB
    assert centre[4.0, 4.0, 0.0] == centre[4.0, 4.0, 2.5] == round(255 * (1.055 * 0.25 ** (1 / 2.4) - 0.055))


@pytest.mark.parametrize("sun", [False, True])
def test_shadow_lies_where_geometry_puts_it(sun: bool) -> None:
    scene = SceneBuilder()
    paint = scene.material(Material(base=(0.5, 0.5, 0.5)))
    scene.box((0, 0, -1), (100, 100, 2), paint, casts=False)
    scene.box((0, 0, 1.0), (1, 1, 0.1), paint)
    light = Light((0, 0, 1), (0.5,) * 3, sun=True) if sun else Light((0, 0, 2.0), (2.0,) * 3)
    camera = Camera.aimed(K, (2.2, 0, 0.9), heading=-math.pi / 2, pitch=-0.4)
    image, depth, _ = render(scene.scene([light], ambient=(0.1,) * 3), camera, H, W)
    points = camera.position + depth[..., None] * _rays(camera)
    floor = (depth > 0) & (np.abs(points[..., 2]) < 1e-3)
    # the plate's upper edge is at 1.05 m: a lamp at 2 m magnifies its lower one by 2 / 1.05, the upper one by 2 / 0.95
    edge = 0.5 if sun else 0.5 * 2 / 0.95
    outside = np.abs(points[..., :2]).max(-1) - edge
    dark = image[..., 0] < 100
    assert dark[floor & (outside < -0.1)].all()
    assert not dark[floor & (outside > 0.1) & (outside < 0.5)].any()
    assert (floor & (outside < -0.1)).sum() > 20


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_culling_changes_nothing(world: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, camera = make_scene(world, np.random.default_rng(seed), 40, 56)
    culled = render(scene, camera, 40, 56)

    def everything(corners: np.ndarray, light: Light, points: np.ndarray, lit: np.ndarray) -> np.ndarray:
        return np.ones((len(corners), points.shape[1]), np.bool_)

    def all_tiles(tiles: raycast._Tiles, corners: np.ndarray, camera: Camera) -> np.ndarray:
        return np.ones((len(corners), tiles.rows * tiles.columns), np.bool_)

    monkeypatch.setattr(light, "_behind_lamp", everything)
    monkeypatch.setattr(light, "_under_sun", everything)
    monkeypatch.setattr(raycast._Tiles, "touched", all_tiles)
    for fast, slow in zip(culled, render(scene, camera, 40, 56), strict=True):
        assert np.array_equal(fast, slow)


@given(st.floats(-4, 4), st.floats(0.01, 2.5), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_pulse_is_the_mean_over_its_footprint(x: float, width: float, duty: float) -> None:
    samples = x + width * (np.arange(4001) + 0.5 - 2000.5) / 4001
    expected = np.mean(np.abs(samples - np.rint(samples)) <= duty / 2)
    found = pulse(*(np.array([value], np.float32) for value in (x, width, duty)))
    assert found[0] == pytest.approx(expected, abs=3e-3)


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_noise_is_bounded_continuous_and_fades(seed: int) -> None:
    x, y = np.random.default_rng(seed).uniform(-300, 300, (2, 200)).astype(np.float32)
    sharp = noise(x, y, np.zeros_like(x))
    assert np.abs(sharp).max() <= 1
    assert np.abs(noise(x + np.float32(1e-3), y, np.zeros_like(x)) - sharp).max() < 0.05
    assert not noise(x, y, np.full_like(x, 2)).any()


def test_sky_has_colour_but_no_depth() -> None:
    scene = SceneBuilder()
    scene.box((0, 0, -1), (100, 100, 2), scene.material(Material()))
    image, depth, valid = render(scene.scene(sky=Sky(clouds=0.5)), _camera(), H, W)
    assert not valid[0].any()
    assert not depth[0].any()
    assert image[0].min() > 0


# ------------------------------------------------------------------------------------------------------------ data set


@pytest.mark.parametrize("world", WORLDS)
@given(seed=seeds)
@settings(max_examples=8, deadline=None)
def test_contract_of_a_frame(world: str, seed: int) -> None:
    frame = _dataset(world, seed=seed).read(2).checked()
    assert frame.id == f"{world}-train-000002"
    assert frame.depth.dtype == np.float32
    assert np.isfinite(frame.depth).all()
    assert not frame.depth[~frame.valid].any()
    assert (frame.depth[frame.valid] > 0).all()
    assert frame.image.std() > 3
    if world == "rooms":
        assert frame.valid.all()
        assert frame.depth.max() < 10
    else:
        assert frame.valid.mean() > 0.3
        assert frame.depth.max() <= 300
    (fx, zero, cx), (_, fy, cy), last = frame.intrinsics
    assert fx == fy > 10
    assert (cx, cy, zero) == (15.5, 11.5, 0)
    assert last.tolist() == [0, 0, 1]


def test_street_sees_far_and_sky() -> None:
    frames = [_dataset("street", length=6).read(i) for i in range(6)]
    assert max(f.depth.max() for f in frames) > 80
    assert any(not f.valid.all() for f in frames)


_DIGESTS = """
import hashlib, numpy as np
from mde.data.worlds.raycast import render
from mde.data.worlds import make_scene
digests = []
for world in ("rooms", "street"):
    scene, camera = make_scene(world, np.random.default_rng(np.random.SeedSequence((7, 0, 1))), 24, 32)
    image, depth, _ = render(scene, camera, 24, 32)
    digests.append(hashlib.sha256(image.tobytes() + depth.tobytes()).hexdigest())
"""


def _digests() -> list[str]:
    names: dict[str, list[str]] = {}
    exec(_DIGESTS, names)
    return names["digests"]


def test_same_bytes_twice() -> None:
    first, second = _digests(), _digests()
    assert first == second
    assert first[0] != first[1]


@pytest.mark.slow
def test_same_bytes_in_a_fresh_process() -> None:
    program = [sys.executable, "-c", _DIGESTS + "print(*digests)"]
    other = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout.split() == _digests()


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("processes", [None, 1, 3])
def test_preload_gives_the_same_samples(world: str, processes: int | None) -> None:
    live, kept = _dataset(world, length=5), _dataset(world, length=5)
    kept.preload(processes)
    sent = pickle.loads(pickle.dumps(kept))
    for index in range(5):
        a = live.read(index)
        for b in (kept.read(index), sent.read(index)):
            assert a.id == b.id
            for name in ("image", "depth", "valid", "intrinsics"):
                assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_splits_and_seeds_share_no_scene_and_length_changes_none() -> None:
    frames = {
        (split, seed, index): _dataset("rooms", split, seed=seed).read(index).depth.tobytes()
        for split in ("train", "val", "test")
        for seed in (0, 1)
        for index in range(3)
    }
    assert len(set(frames.values())) == len(frames) == 18
    assert _dataset("rooms", length=100).read(2).depth.tobytes() == frames["train", 0, 2]


def test_frames_end() -> None:
    for index in (-1, 3):
        with pytest.raises(IndexError):
            _dataset("rooms").read(index)
    assert len(list(_dataset("rooms"))) == 3


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"world": "room"}, "rooms"),
        ({"split": "vall"}, "val"),
        ({"length": -1}, "-1"),
        ({"seed": -1}, "-1"),
        ({"width": 0}, "x0"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, object], named: str) -> None:
    given_ = {
        "world": "rooms",
        "split": "train",
        "length": 1,
        "height": 8,
        "width": 8,
        "transform": EvalTransform((8, 8)),
    }
    with pytest.raises(ConfigError, match=named):
        ProceduralDataset(**{**given_, **wrong})  # type: ignore[arg-type]


def test_wrong_scenes_are_refused() -> None:
    with pytest.raises(ConfigError, match="union"):
        Material(mode="unoin").row()
    with pytest.raises(ConfigError, match="primitive"):
        SceneBuilder().scene()
    scene, camera = make_scene("rooms", np.random.default_rng(0), 8, 8)
    with pytest.raises(ConfigError, match="0x8"):
        render(scene, camera, 0, 8)
    with pytest.raises(ConfigError, match="rooms"):
        make_scene("roms", np.random.default_rng(0), 8, 8)


# --------------------------------------------------------------------------------------------------------- in parallel


def _run(make: object, count: int = 8, processes: int = 3) -> None:
    pool.fill_in_parallel(make, count, "test", processes)  # type: ignore[arg-type]


@pytest.mark.parametrize("trouble", ["none", "dies", "hangs", "raises"])
def test_every_item_is_made_whatever_happens_to_the_helpers(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_PATIENCE", 0.3)
    parent, out = os.getpid(), pool.shared_array((8,), np.int64)

    def make(index: int) -> None:
        if os.getpid() != parent and index == 4:
            if trouble == "dies":
                os._exit(1)
            if trouble == "hangs":
                time.sleep(60)
            if trouble == "raises":
                raise SystemExit(1)
        out[index] = index + 100

    _run(make)
    assert out.tolist() == list(range(100, 108))


def test_an_error_of_the_work_is_raised_here() -> None:
    def make(index: int) -> None:
        if index == 6:
            raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        _run(make, processes=1)


def test_a_daemon_works_alone() -> None:
    out = pool.shared_array((6,), np.int64)

    def make(index: int) -> None:
        out[index] = os.getpid()

    daemon = multiprocessing.get_context("fork").Process(target=_run, args=(make, 6), daemon=True)
    daemon.start()
    daemon.join(20)
    assert daemon.exitcode == 0
    assert set(out.tolist()) == {daemon.pid}


# --------------------------------------------------------------------------------------------------------- data module


def _module(**settings_: object) -> ProceduralDataModule:
    small = {
        "train_scenes": 5,
        "val_scenes": 2,
        "test_scenes": 2,
        "image_size": (24, 32),
        "batch_size": 2,
        "num_workers": 0,
    }
    return ProceduralDataModule(**{**small, **settings_})  # type: ignore[arg-type]


class TestRooms(DataModuleContract):
    world = "rooms"

    def make(self, folder: Path, **settings_: object) -> ProceduralDataModule:
        return _module(**{"world": self.world, **settings_})


class TestStreet(TestRooms):
    world = "street"


@pytest.mark.parametrize(("world", "depth_range"), [("rooms", (0.3, 10.0)), ("street", (1.0, 80.0))])
def test_module_gives_batches_and_the_protocol_of_its_world(world: str, depth_range: tuple[float, float]) -> None:
    module = _module(world=world, render_size=(48, 64))
    module.setup("fit")
    assert module.protocol.name == world
    assert module.protocol.max_depth == depth_range[1]
    assert module.depth_range == depth_range
    train, val = next(iter(module.train_dataloader())), next(iter(module.val_dataloader()))
    assert train["image"].shape == val["image"].shape == (2, 3, 24, 32)
    assert train["depth"].shape == (2, 1, 24, 32)
    assert val["depth"].shape == (2, 1, 48, 64)  # the ground truth keeps its size
    assert val["id"] == [f"{world}-val-000000", f"{world}-val-000001"]
    for batch in (train, val):
        assert torch.equal(batch["valid"], batch["depth"] > 0)
        assert batch["intrinsics"][:, 0, 2].allclose(torch.tensor(15.5))
        assert 0 <= batch["image"].min() < batch["image"].max() <= 1


def test_module_preload_and_overrides() -> None:
    live, kept = _module(preload=False, augmentations=[]), _module(augmentations=[])
    for a, b in zip(live.dataset("train"), kept.dataset("train"), strict=True):
        for key in ("image", "depth", "valid", "intrinsics"):
            assert torch.equal(a[key], b[key])  # type: ignore[literal-required]
    custom = _module(protocol="nyu_eigen", depth_range=(0.1, 5.0), seed=3)
    assert (custom.protocol.name, custom.depth_range) == ("nyu_eigen", (0.1, 5.0))
    with pytest.raises(ConfigError, match="street"):
        _module(world="streets")
    with pytest.raises(ConfigError, match="val"):
        custom.make_dataset("validation")
