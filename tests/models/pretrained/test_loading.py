"""Folders as the hub holds them: loaded whole, or refused in one line that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForDepthEstimation, DPTImageProcessor, GLPNImageProcessor

from mde.errors import CheckpointError, ConfigError
from mde.models.pretrained import PretrainedDepth
from mde.models.pretrained.known import hub_or_folder, known
from mde.rebuild import without_weights
from mde.types import Ambiguity
from tests.models.pretrained.tiny import TINY

PROCESSOR = DPTImageProcessor(
    size={"height": 28, "width": 42}, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3,
    image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random Depth Anything with variation in its output, saved whole."""
    torch.manual_seed(0)
    net = AutoModelForDepthEstimation.from_config(AutoConfig.for_model(**TINY["depth_anything"][0]))
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.reset_parameters()
    torch.nn.init.ones_(net.head.conv3.bias)
    net.save_pretrained(tmp_path / "net")
    PROCESSOR.save_pretrained(tmp_path / "net")
    return tmp_path / "net"


def test_a_folder_says_what_transformers_says(folder: Path) -> None:
    """Preprocessing, network and way back against transformers' own three steps."""
    model = PretrainedDepth(str(folder)).eval()
    assert model.ambiguity is Ambiguity.AFFINE_DISPARITY
    image = 0.35 + 0.3 * torch.rand(1, 3, 33, 47)
    net = AutoModelForDepthEstimation.from_pretrained(folder).eval()
    with torch.no_grad():
        output = net(**PROCESSOR(image[0], return_tensors="pt", do_rescale=False))
        expected = PROCESSOR.post_process_depth_estimation(output, target_sizes=[(33, 47)])[0]["predicted_depth"]
        found = model(image)[0, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert float(found.std()) > 1e-4


def test_relative_becomes_metric_with_the_same_weights(folder: Path) -> None:
    changes = {"depth_estimation_type": "metric", "max_depth": 10}
    model, plain = PretrainedDepth(str(folder), config=changes).eval(), PretrainedDepth(str(folder)).eval()
    assert model.ambiguity is Ambiguity.METRIC
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))
    with torch.no_grad():
        out, relative = (
            m(torch.rand(1, 3, 28, 42, generator=torch.Generator().manual_seed(3))) for m in (model, plain)
        )
    torch.testing.assert_close(out, 10 * torch.sigmoid(relative), rtol=1e-4, atol=1e-4)  # positive before the ReLU


def test_weights_from_a_file_and_from_nowhere(folder: Path) -> None:
    expected = PretrainedDepth(str(folder)).state_dict()
    found = PretrainedDepth(str(folder), weights=str(folder / "model.safetensors")).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    random = PretrainedDepth(str(folder), weights=None).state_dict()
    assert not torch.equal(random["net.head.conv1.weight"], expected["net.head.conv1.weight"])
    with without_weights():
        assert PretrainedDepth(str(folder)).net.head.conv1.weight.isfinite().all()  # type: ignore[union-attr]


def test_settings_of_a_folder_can_be_changed(folder: Path) -> None:
    model = PretrainedDepth(str(folder), preprocessing={"size": [56, 56], "keep_aspect": False})
    assert model.preprocessing.input_size(100, 200) == (56, 56)
    assert model.preprocessing.multiple == 14
    with pytest.raises(ConfigError, match=r"unknown setting 'fusion_size'.*fusion_hidden_size"):
        PretrainedDepth(str(folder), config={"fusion_size": 3})
    with pytest.raises(ConfigError, match=r"unknown setting 'hidden'.*hidden_size"):
        PretrainedDepth(str(folder), config={"backbone_config": {"hidden": 3}})


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert ". Next: " in text
    return text


def test_folders_that_lack_something(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"holds no usable configuration.*save config.json there") as error:
        PretrainedDepth(str(tmp_path / "empty"))
    one_line(error)
    (folder / "preprocessor_config.json").rename(tmp_path / "kept.json")
    with pytest.raises(CheckpointError, match="no usable image processor") as error:
        PretrainedDepth(str(folder))
    one_line(error)
    assert PretrainedDepth(str(folder), preprocessing={}).preprocessing.size == (518, 518)
    (tmp_path / "kept.json").rename(folder / "preprocessor_config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no usable weights.*save model.safetensors") as error:
        PretrainedDepth(str(folder))
    one_line(error)
    (folder / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match="no usable weights"):
        PretrainedDepth(str(folder))


def test_weights_that_lack_tensors(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if not k.startswith("head.")}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="6 tensors of the network are not among its weights, the first is head"):
        PretrainedDepth(str(folder))


def test_a_network_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ConfigError, match=r"cannot make a depth network of type 'bert'|not known"):
        PretrainedDepth(str(tmp_path), weights=None, preprocessing={}, ambiguity="metric")
    with pytest.raises(ConfigError, match="no network of type 'dephtanything'"):
        PretrainedDepth("x", None, {"model_type": "dephtanything"})
    with pytest.raises(ConfigError, match="nearest: hidden_sizes"):
        PretrainedDepth("x", None, {"model_type": "glpn", "hidden_size": [8]})
    with pytest.raises(ConfigError, match=r"not a configuration of glpn .*expected a list"):
        PretrainedDepth("x", None, {"model_type": "glpn", "hidden_sizes": "wide"})


def test_wrong_names_are_told_before_the_network_is_asked() -> None:
    with pytest.raises(CheckpointError, match=r"nearest names: depth-anything-v2-small"):
        hub_or_folder("depth-anything-v2-smal")
    for name in ("/no/such", "./folder", "a/b/c", "folder/"):
        with pytest.raises(CheckpointError, match="no folder and no known"):
            hub_or_folder(name)
    assert hub_or_folder("dpt-large") == "Intel/dpt-large"
    assert hub_or_folder("owner/name") == "owner/name"


def test_offline_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub to load the files.\nCheck your connection.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", offline)
    with pytest.raises(
        CheckpointError, match=r"could not be fetched \(We couldn't connect.*give a local folder"
    ) as error:
        PretrainedDepth("depth-anything-v2-small")
    one_line(error)


def test_glpn_folder_is_metric(tmp_path: Path) -> None:
    AutoModelForDepthEstimation.from_config(AutoConfig.for_model(**TINY["glpn"][0])).save_pretrained(tmp_path)
    GLPNImageProcessor().save_pretrained(tmp_path)
    model = PretrainedDepth(str(tmp_path))
    assert model.ambiguity is Ambiguity.METRIC
    assert model.preprocessing.input_size(100, 70) == (96, 64)


def test_the_table_is_whole() -> None:
    keys = {"hub", "family", "ambiguity", "licence", "trained_on", "input", "parameters", "paper"}
    for name, entry in known().items():
        assert keys <= set(entry), name
        assert all(isinstance(value, str) and value for value in entry.values()), name
        assert entry["ambiguity"] in {a.value for a in Ambiguity}
        assert ("range" in entry) is (entry["ambiguity"] == "metric"), name
        assert hub_or_folder(name).count("/") == 1
    non_commercial = {name for name, entry in known().items() if "NC" in entry["licence"]}
    assert non_commercial == {"depth-anything-v2-base", "depth-anything-v2-large"}
