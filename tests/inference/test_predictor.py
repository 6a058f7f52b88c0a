"""`Predictor`: the numbers of the network whatever holds the picture; many pictures; settings that do not suit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import mde
from mde.errors import CheckpointError, ConfigError, DataFormatError
from mde.inference import Camera, Predictor, sources
from mde.inference.predictor import chunks
from mde.models import DeepLabSID, DepthModule, PretrainedDepth, SmpEncoder, UNet
from mde.types import Ambiguity, Prediction
from tests.checkpoints import write_checkpoint

SIZE = (16, 24)


def unet(**settings: Any) -> UNet:
    torch.manual_seed(0)
    return UNet(widths=(4, 8), **{"image_size": SIZE, "depth_range": (0.2, 12.0), **settings})


def photo(seed: int = 0, height: int = 37, width: int = 51) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "checkpoints" / "best.ckpt", unet())


class Fails(UNet):
    """Fails on batches, and on pictures that are narrower than 30 pixels."""

    def forward(self, image: Tensor) -> Tensor:
        if len(image) > 1 or image.shape[-1] < 30:
            raise RuntimeError("out of memory\nwith many lines")
        return super().forward(image)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [SIZE, None])
def test_the_values_are_those_of_the_module_to_the_last_bit(
    checkpoint: Path, tmp_path: Path, flip: bool, size: tuple[int, int] | None
) -> None:
    method = mde.load(checkpoint)
    method.image_size = size
    image = photo()
    Image.fromarray(image).save(tmp_path / "a.png")
    floats = torch.from_numpy(image).permute(2, 0, 1).float() / 255 * 0.7
    predictor = Predictor(method, flip=flip)
    wanted = method.predict(image, flip=flip).values[0, 0].numpy()
    for given in (
        image,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(image),
        torch.from_numpy(image).permute(2, 0, 1),
    ):
        np.testing.assert_array_equal(predictor(given).values, wanted)
    np.testing.assert_array_equal(predictor(image[..., ::-1], order="bgr").values, wanted)
    np.testing.assert_array_equal(predictor(floats).values, method.predict(floats, flip=flip).values[0, 0].numpy())


def test_a_result_says_what_is_known(checkpoint: Path) -> None:
    for given in (checkpoint, checkpoint.parents[1], str(checkpoint)):
        result = Predictor(given)(photo(), camera=Camera(fov=90))
        assert (result.model, result.ambiguity, result.unit, result.source) == ("UNet", Ambiguity.METRIC, "m", "")
        assert result.depth_range == pytest.approx((0.2, 12.0))
        assert result.intrinsics is not None
        assert result.intrinsics[0].tolist() == pytest.approx([25.5, 0, 25])
        np.testing.assert_array_equal(result.image, photo())
        assert len(result.to_points().points) == 37 * 51


def test_many_pictures_come_one_by_one_and_in_order(checkpoint: Path) -> None:
    given = [photo(0), photo(1, 20, 30), photo(2), photo(3, 20, 30).astype(np.float32) / 255, photo(4)]
    taken = 0

    def endless() -> Iterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            yield given[(taken - 1) % 5]

    predictor = Predictor(checkpoint, batch_size=2)
    single = [Predictor(checkpoint)(image) for image in given]
    stream = predictor(endless())
    assert taken == 0
    for index in range(20):
        result = next(stream)
        assert taken <= index + 4 * 2
        np.testing.assert_allclose(result.values, single[index % 5].values, rtol=1e-5)
    for many in (np.stack([photo(0), photo(2)]), torch.from_numpy(np.stack([photo(0), photo(2)])).permute(0, 3, 1, 2)):
        for found, index in zip(predictor(many), (0, 2), strict=True):
            np.testing.assert_allclose(found.values, single[index].values, rtol=1e-5)
    assert list(predictor([])) == []
    assert [len(chunk) for chunk in chunks(range(20), 2)] == [8, 8, 4]


def test_sources_are_read_when_their_turn_comes(checkpoint: Path, tmp_path: Path) -> None:
    Image.fromarray(photo()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    stream = Predictor(checkpoint)(sources([tmp_path]))
    assert next(stream).source == "a.png"
    with pytest.raises(DataFormatError, match=r"b\.png"):
        next(stream)


def test_what_a_batch_cannot_do_single_pictures_can() -> None:
    torch.manual_seed(0)
    predictor = Predictor(Fails(widths=(4, 8)), batch_size=4)
    pictures = [mde.inference.predictor.picture_of(photo(i, 20, w), name=str(i)) for i, w in enumerate((40, 40, 24))]
    first, second, third = predictor.outcomes(pictures)
    assert not isinstance(first, DataFormatError)
    assert not isinstance(second, DataFormatError)
    np.testing.assert_array_equal(first.values, predictor(photo(0, 20, 40)).values)
    assert str(third) == (
        "the network failed on 24x20 pixels (out of memory with many lines) [2]. "
        "Next: give another image_size (--size HxW)"
    )


def test_the_size_of_the_network_can_be_another(checkpoint: Path) -> None:
    method = mde.load(checkpoint)
    method.image_size = (32, 40)
    wanted = method.predict(photo()).values[0, 0].numpy()
    np.testing.assert_array_equal(Predictor(checkpoint, image_size=(32, 40))(photo()).values, wanted)
    given = mde.load(checkpoint)
    np.testing.assert_array_equal(Predictor(given, image_size=(32, 40))(photo()).values, wanted)
    assert given.image_size == SIZE
    assert Predictor(given, image_size=(32, 40)).network.works_at == (32, 40)
    assert Predictor(given).network.works_at == SIZE


def test_tiles_leave_the_method_as_it_was(checkpoint: Path) -> None:
    method = mde.load(checkpoint)
    whole = Predictor(method)(photo()).values
    one = Predictor(method, tiles=(1, 1))(photo())
    np.testing.assert_array_equal(one.values, whole)
    assert one.model == "UNet (1x1 tiles)"
    four = Predictor(checkpoint, tiles=(2, 2), image_size=SIZE)(photo())
    assert four.values.shape == whole.shape
    assert not np.array_equal(four.values, whole)
    assert all(parameter.requires_grad for parameter in method.parameters())
    with pytest.raises(DataFormatError, match=r"failed on 1x1 pixels \(2 tiles of a picture of 1 pixels are too many"):
        Predictor(checkpoint, tiles=(2, 2))(photo(0, 1, 1))


def test_bf16_is_near_and_comes_as_float32(checkpoint: Path) -> None:
    low, plain = (Predictor(checkpoint, precision=name)(photo()).values for name in ("bf16", "32"))
    assert low.dtype == np.float32
    assert 0 < np.abs(low / plain - 1).max() < 0.05


def test_a_mirrored_picture_says_how_sure_any_network_is(checkpoint: Path) -> None:
    method = mde.load(checkpoint)
    seen = method.predict(photo()).values[0, 0].numpy()
    mirrored = method.predict(photo()[:, ::-1]).values[0, 0].numpy()[:, ::-1]
    for flip, wanted in ((False, seen), (True, (seen + mirrored) / 2)):
        result = Predictor(checkpoint, uncertainty=True, flip=flip)(photo())
        np.testing.assert_allclose(result.values, wanted, rtol=1e-6)
        np.testing.assert_allclose(result.std, np.std([seen, mirrored], axis=0), atol=1e-6)
    assert Predictor(checkpoint)(photo()).std is None


def test_a_method_that_knows_how_sure_it_is_says_so_itself() -> None:
    torch.manual_seed(0)
    method = DeepLabSID(SmpEncoder("resnet18", output_stride=8), bins=5, image_size=SIZE).train()
    result = Predictor(method, uncertainty=True)(photo(0, *SIZE))
    assert method.training
    method.eval()
    std = method.uncertainty(torch.from_numpy(photo(0, *SIZE)).permute(2, 0, 1)[None].float() / 255)[0]
    np.testing.assert_allclose(result.std, std[0, 0].numpy(), rtol=1e-5)
    larger = Predictor(method, uncertainty=True)(photo(0, 40, 50))
    assert larger.std is not None
    assert larger.std.shape == (40, 50)


class Memory:
    """An exported network: says the red of a picture in metres."""

    ambiguity = Ambiguity.METRIC

    class info:
        model, depth_range, image_size, weights = "told", (0.1, 1.0), None, "abc"

    def predict(self, image: Tensor, flip: bool = False) -> Prediction:
        assert image.dtype == torch.uint8
        return Prediction(image[:, :1].float() / 255, self.ambiguity)


def test_an_exported_network_needs_no_code_of_its_method() -> None:
    result = Predictor(Memory())(photo())
    np.testing.assert_array_equal(result.values, photo()[..., 0].astype(np.float32) / np.float32(255))
    assert (result.model, result.depth_range) == ("told", (0.1, 1.0))
    wrong: list[dict[str, Any]] = [{"tiles": (2, 2)}, {"image_size": (8, 8)}, {"precision": "bf16"}]
    for settings in wrong:
        with pytest.raises(ConfigError, match="fixed in an exported file"):
            Predictor(Memory(), **settings)


def test_a_file_of_onnx_says_what_its_checkpoint_says(checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra export")
    from mde.inference.export import export

    export(mde.load(checkpoint), tmp_path / "a.onnx", "onnx")
    found = Predictor(tmp_path / "a.onnx", device="cpu", batch_size=2)([photo(), photo(1), photo(2, 9, 9)])
    for index, (result, image) in enumerate(zip(found, (photo(), photo(1), photo(2, 9, 9)), strict=True)):
        np.testing.assert_allclose(result.values, Predictor(checkpoint)(image).values, rtol=1e-4, err_msg=str(index))
        assert (result.model, result.depth_range) == ("UNet", pytest.approx((0.2, 12.0)))


CONFIG = {
    "model_type": "depth_anything", "reassemble_hidden_size": 16, "neck_hidden_sizes": [8, 8, 8, 8],
    "fusion_hidden_size": 8, "head_hidden_size": 8, "patch_size": 14,
    "backbone_config": {
        "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 14, "out_indices": [1, 2, 3, 4], "apply_layernorm": True, "reshape_hidden_states": False,
    },
}  # fmt: skip


def test_a_network_of_other_authors_keeps_its_rules_and_its_ambiguity() -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    method: DepthModule = PretrainedDepth(config=CONFIG, weights=None, preprocessing={"size": [28, 42]})
    result = Predictor(method)(photo())
    np.testing.assert_array_equal(result.values, method.eval().predict(photo()).values[0, 0].numpy())
    assert result.ambiguity is Ambiguity.AFFINE_DISPARITY
    assert result.depth_range is None
    with pytest.raises(ConfigError, match="no standard deviation in metres"):
        Predictor(method, uncertainty=True)


def test_wrong_settings_are_said_before_any_work(checkpoint: Path, tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"device": "gpu"}, "use auto or cpu"), ({"device": "cuda:77"}, "use auto or cpu"),
        ({"precision": "16"}, "use 32 or bf16"), ({"image_size": (0, 9)}, "no picture is 0x9"),
        ({"batch_size": 0}, "at least one"), ({"tiles": (0, 1)}, "tiles must be"),
    ]  # fmt: skip
    for settings, says in wrong:
        with pytest.raises(ConfigError, match=says):
            Predictor(checkpoint, **settings)
    with pytest.raises(ConfigError, match="is no depth network"):
        Predictor(torch.nn.Linear(1, 1))  # type: ignore[arg-type]
    (tmp_path / "other.ckpt").write_bytes(b"PK other")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    for name, says in (("none.ckpt", "no such"), ("other.ckpt", "not a readable"), ("foreign.ckpt", "of this library")):
        with pytest.raises(CheckpointError, match=says):
            Predictor(tmp_path / name)


def test_weights_have_a_name_of_their_own(checkpoint: Path) -> None:
    first, same, other = (
        Predictor(unet()).network,
        Predictor(unet()).network,
        Predictor(unet(image_size=None)).network,
    )
    assert first.weights == same.weights != other.weights
    assert Predictor(checkpoint).network.weights == Predictor(checkpoint, flip=True).network.weights
