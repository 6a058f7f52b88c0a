from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mde.errors import CheckpointError, ConfigError, DataFormatError
from mde.inference import TiledDepth
from mde.inference.export import ExportInfo, OnnxModel, TorchModel, compare, export
from mde.inference.export.info import network_size, weights_hash
from mde.inference.export.models import INFO_FILE
from mde.inference.export.parity import LIMITS, _Tally
from mde.models import UNet
from mde.types import Ambiguity

SIZE = (32, 48)


def network(seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    return UNet(widths=(4, 8), image_size=SIZE, depth_range=(0.2, 12.0)).eval()


def pictures(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def said(method: UNet, images: np.ndarray, flip: bool = False) -> np.ndarray:
    return method.predict(torch.from_numpy(images).permute(0, 3, 1, 2), flip=flip).values.numpy()


@pytest.fixture(scope="module")
def method() -> UNet:
    return network()


@pytest.fixture(scope="module")
def file(method: UNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "new" / "a.onnx"
    export(method.train(), path)
    assert method.training, "left as it was"
    assert [each.name for each in path.parent.iterdir()] == ["a.onnx"]
    method.eval()
    return path


@pytest.fixture(scope="module")
def program(method: UNet, tmp_path_factory: pytest.TempPathFactory) -> TorchModel:
    made = export(method, tmp_path_factory.mktemp("torch") / "a.pt2", "torch", flip=True, batch=2, name="tiny")
    assert isinstance(made, TorchModel)
    return made


@pytest.fixture(scope="module")
def halved(method: UNet, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    made = export(method, tmp_path_factory.mktemp("half") / "a.onnx", half=True)
    assert isinstance(made, OnnxModel)
    return made


@pytest.fixture(scope="module")
def session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def weights(before: int, after: int) -> np.ndarray:
    """(after,before): a bilinear resize of one axis, smoothed where it shrinks, by its definition in float64."""
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale
    raw = 1 - np.abs(np.arange(before) + 0.5 - centres[:, None]) / max(scale, 1.0)
    raw = raw.clip(0)
    return raw / raw.sum(1, keepdims=True)


def resized(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.einsum("ph,bchw,qw->bcpq", weights(maps.shape[2], height), maps, weights(maps.shape[3], width))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 3), height=st.integers(1, 120), width=st.integers(1, 150), seed=st.integers(0, 99))
def test_any_size_and_batch_by_onnxruntime_alone(
    method: UNet, session: onnxruntime.InferenceSession, count: int, height: int, width: int, seed: int
) -> None:
    """Larger, smaller, both at once, one pixel: network and codec of PyTorch between resizes in float64."""
    images = pictures(count, height, width, seed)
    (found,) = session.run(["depth"], {"image": images})
    assert found.shape == (count, 1, height, width)
    assert found.dtype == np.float32
    inputs = torch.from_numpy(resized(images.transpose(0, 3, 1, 2) / 255.0, *SIZE)).float()
    with torch.no_grad():
        depth = method.codec.decode(method(inputs)).double().numpy()
    np.testing.assert_allclose(found, resized(depth, height, width), rtol=1e-4)
    np.testing.assert_allclose(found, said(method, images), rtol=1e-5)


def test_the_file_read_by_onnx(file: Path, method: UNet) -> None:
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    (image,), (depth,) = model.graph.input, model.graph.output
    sides = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (image, depth)]
    assert sides == [["batch", "height", "width", 3], ["batch", 1, "height", "width"]]
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert (depth.name, depth.type.tensor_type.elem_type) == ("depth", onnx.TensorProto.FLOAT)
    entries = {each.key: json.loads(each.value) for each in model.metadata_props}
    assert (entries["mde.ambiguity"], entries["mde.unit"], entries["mde.model"]) == ("metric", "m", "UNet")
    assert (entries["mde.depth_range"], entries["mde.image_size"], entries["mde.batch"]) == (
        [0.2, 12.0],
        [32, 48],
        None,
    )
    assert entries["mde.weights"] == weights_hash(method)
    assert str(Path(torch.__file__).parent).encode() not in file.read_bytes(), "no path of this machine"


def test_red_comes_first(file: Path, method: UNet, tmp_path: Path) -> None:
    (image,) = pictures(1, 41, 37)
    Image.fromarray(image).save(tmp_path / "a.png")
    model = OnnxModel(file)
    wanted = method.predict(image).values
    for given_as in (tmp_path / "a.png", Image.fromarray(image), image, torch.from_numpy(image).permute(2, 0, 1)):
        found = model.predict(given_as)
        assert found.ambiguity is Ambiguity.METRIC
        torch.testing.assert_close(found.values, wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(model.predict(image / 255.0).values, wanted, rtol=1e-5, atol=0)
    assert float((model.predict(image[..., ::-1]).values - wanted).abs().max()) > 1e-3, "blue first is another picture"
    mirrored = method.predict(image, flip=True).values
    torch.testing.assert_close(model.predict(image, flip=True).values, mirrored, rtol=1e-5, atol=0)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_torch_export_with_flip_and_a_fixed_batch(program: TorchModel, method: UNet, count: int) -> None:
    assert (program.info.batch, program.info.flip, program.info.model) == (2, True, "tiny")
    images = pictures(count, 50, 31)
    np.testing.assert_allclose(program(images), said(method, images, flip=True), rtol=1e-5)
    narrow = pictures(count, 50, 2)[:, :, :1]
    np.testing.assert_allclose(program(narrow), said(method, narrow, flip=True), rtol=1e-5)
    assert float(np.abs(program(images) - said(method, images)).max()) > 1e-4, "averaged, not plain"


def test_a_program_loads_without_this_library(program: TorchModel, method: UNet) -> None:
    images = pictures(2, 33, 60)
    loaded = torch.export.load(str(program.path))
    assert "/mde/" not in str(loaded.graph), "no file of this machine"
    with torch.no_grad():
        found = loaded.module()(torch.from_numpy(images))
    np.testing.assert_allclose(found.numpy(), said(method, images, flip=True), rtol=1e-5)


def test_half_precision(halved: OnnxModel, file: Path, method: UNet) -> None:
    kinds = {each.data_type for each in onnx.load(halved.path).graph.initializer if np.prod(each.dims) > 20}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert method.dtype == torch.float32
    assert halved.info.weights == OnnxModel(file).info.weights, "of the checkpoint, whatever the precision"
    images = pictures(2, 45, 61)
    found, wanted = halved(images), said(method, images)
    assert found.dtype == np.float32
    assert 1e-6 < float((np.abs(found - wanted) / wanted).mean()) < LIMITS["fp16"].drift / 10


def test_parity_of_the_rendered_rooms(file: Path, method: UNet) -> None:
    found = compare(method, OnnxModel(file), runs=1)
    assert found.passed
    assert (found.pictures, found.size, found.beyond) == (9, (240, 320), 0.0)
    assert found.max_relative < 1e-5
    assert min(found.pytorch_ms, found.exported_ms) > 0
    assert method.image_size == SIZE


def test_parity_notices_another_network(file: Path) -> None:
    other = network(seed=1)
    found = compare(other, OnnxModel(file), pictures(1, 40, 40), runs=1)
    assert not found.passed
    assert found.beyond > 0.5
    with pytest.raises(ConfigError, match="no picture to compare"):
        compare(other, OnnxModel(file), [])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-5, 1e-3, 0.1]))
def test_numbers_of_parity_are_those_of_the_formulas(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    wanted = rng.uniform(0.5, 10, (2, 1, 6, 7)).astype(np.float32)
    found = (wanted * (1 + scale * rng.normal(size=wanted.shape))).astype(np.float32)
    tally = _Tally(LIMITS["fp32"])
    for one in range(2):
        tally.add(wanted[one : one + 1], found[one : one + 1])
    made = tally.report((6, 7), 1.0, 2.0)
    error = np.abs(wanted.astype(float) - found)
    assert made.max_abs == pytest.approx(error.max())
    assert made.abs_rel == pytest.approx((error / wanted).mean())
    assert made.max_relative == pytest.approx((error / wanted).max())
    assert made.beyond == pytest.approx((error / wanted > 1e-3).mean())
    assert made.passed == (made.abs_rel <= 1e-3 and made.beyond <= 1e-3)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_number_that_is_none_fails_unless_both_say_it(wrong: float) -> None:
    wanted = np.ones((1, 1, 4, 4), np.float32)
    broken = wanted.copy()
    broken[0, 0, 1, 1] = wrong
    for pair, passed in (((wanted, broken), False), ((broken, wanted), False), ((broken, broken), True)):
        tally = _Tally(LIMITS["fp32"])
        tally.add(*pair)
        assert tally.report((4, 4), 1, 1).passed is passed


def test_no_file_no_onnx_cut_off_or_of_others(file: Path, program: TorchModel, tmp_path: Path) -> None:
    def refused(make: type[OnnxModel] | type[TorchModel], path: Path, match: str) -> None:
        with pytest.raises(CheckpointError, match=match) as caught:
            make(path)
        assert "Next: " in str(caught.value)
        assert str(path) in str(caught.value)

    for kind, source in ((OnnxModel, file), (TorchModel, program.path)):
        refused(kind, tmp_path / "absent", "no such file")
        for name, content in (("empty", b""), ("text", b"no network"), ("cut", source.read_bytes()[:-500])):
            (tmp_path / name).write_bytes(content)
            refused(kind, tmp_path / name, "not a readable")
    refused(OnnxModel, tmp_path, "no such file")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "foreign", [value], [out])
    foreign = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(foreign, tmp_path / "foreign.onnx")
    refused(OnnxModel, tmp_path / "foreign.onnx", "not an export of this library")
    newer = onnx.load(file)
    onnx.helper.set_model_props(newer, {**OnnxModel(file).info.to_strings(), "mde.format": "99"})
    onnx.save(newer, tmp_path / "newer.onnx")
    refused(OnnxModel, tmp_path / "newer.onnx", "newer than this")
    plain = torch.export.export(torch.nn.Identity(), (torch.zeros(2),))
    for name, extra in (("foreign.pt2", None), ("damaged.pt2", {INFO_FILE: "{"})):
        torch.export.save(plain, tmp_path / name, extra_files=extra)
        refused(TorchModel, tmp_path / name, "not an export of this library")


def test_what_a_file_says_of_itself_comes_back(file: Path) -> None:
    info = OnnxModel(file).info
    assert ExportInfo.from_strings(info.to_strings(), file) == info
    assert (info.image_size, info.trained_size, info.precision, info.flip) == (SIZE, SIZE, "fp32", False)
    for key in ("mde.ambiguity", "mde.depth_range"):
        broken = {**info.to_strings(), key: '"nonsense'}
        with pytest.raises(CheckpointError, match="cannot be read"):
            ExportInfo.from_strings(broken, file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        ExportInfo.from_strings({**info.to_strings(), "mde.ambiguity": '"exact"'}, file)
    assert weights_hash(network()) == info.weights != weights_hash(network(1))


@pytest.mark.parametrize(
    "images", [np.zeros((4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_only_bytes_of_pictures(file: Path, images: np.ndarray) -> None:
    with pytest.raises(DataFormatError, match=r"takes uint8 \(B,H,W,3\)"):
        OnnxModel(file)(images)


def test_devices(file: Path) -> None:
    assert OnnxModel(file, "cpu", threads=1)(pictures(1, 9, 9)).shape == (1, 1, 9, 9)
    with pytest.raises(ConfigError, match="use cpu, cuda or auto"):
        OnnxModel(file, "tpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ConfigError, match="onnxruntime-gpu"):
            OnnxModel(file, "cuda")


def test_settings_that_are_refused(method: UNet, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    for match, given_as in {
        "unknown format": {"format": "tflite"},
        "no batch has 0": {"batch": 0},
        "exclude each other": {"size": (8, 8), "dynamic": True},
        "no picture is 0x8": {"size": (0, 8)},
        r"does not run on a picture of 1x1 .*Next: give a --size": {"size": (1, 1)},
    }.items():
        with pytest.raises(ConfigError, match=match):
            export(method, path, **given_as)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="does not say at which size"):
        network_size(UNet(widths=(4, 8)), None, False)
    with pytest.raises(ConfigError, match="cannot be exported: a TiledDepth fits"):
        export(TiledDepth(method), path, size=SIZE)
    assert list(tmp_path.iterdir()) == []
