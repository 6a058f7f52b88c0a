from __future__ import annotations

import copy
import inspect
import pickle
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from mde.errors import CheckpointError
from mde.models import DepthModule, UNet
from mde.rebuild import Rebuildable, build, rebuilding, spec_of, without_weights
from mde.types import Ambiguity


class Part(Rebuildable, nn.Module):
    def __init__(self, size: int, name: str = "part") -> None:
        super().__init__()
        self.layer = nn.Linear(size, size)
        self.name = name


class Whole(Rebuildable, nn.Module):
    def __init__(self, part: Part, factory=None, sizes=(1, 2), **kwargs) -> None:
        super().__init__()
        self.part, self.factory, self.sizes, self.extra = part, factory, sizes, kwargs


def test_nested_objects_come_back_from_plain_data():
    whole = Whole(Part(3, name="a"), partial(torch.optim.SGD, lr=0.1), sizes=(4, 5), note=Path("x/y"))
    spec = spec_of(whole)
    assert spec["init_args"]["part"]["init_args"] == {"size": 3, "name": "a"}
    again = build(spec)
    assert isinstance(again.part, Part)
    assert again.part.name == "a"
    assert again.sizes == [4, 5]
    assert again.extra == {"note": "x/y"}
    optimizer = again.factory(again.part.parameters())
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["lr"] == 0.1


def test_specs_are_plain_data(tmp_path):
    torch.save(spec_of(Whole(Part(2), Ambiguity.METRIC)), tmp_path / "spec.pt")
    loaded = torch.load(tmp_path / "spec.pt", weights_only=True)
    assert loaded["init_args"]["factory"] == "METRIC"


def test_a_factory_of_our_own_class_comes_back_as_a_factory():
    made = build(spec_of(Whole(Part(2), partial(Part, name="b"))))
    assert made.factory(7).layer.in_features == 7
    assert made.factory(7).name == "b"


def test_copies_and_pickles_keep_the_arguments():
    part = Part(3)
    for again in (copy.deepcopy(part), pickle.loads(pickle.dumps(part))):
        assert spec_of(again) == spec_of(part)
        assert torch.equal(again.layer.weight, part.layer.weight)


def test_what_has_no_plain_form_is_refused_with_its_place():
    with pytest.raises(CheckpointError, match=r"function.*value\.factory.*Rebuildable"):
        spec_of(Whole(Part(2), lambda p: p))


@pytest.mark.parametrize("path", ["os.system", "builtins.eval", "pathlib.Path", "nowhere.Thing", "mde.codecs.Nothing"])
def test_a_file_cannot_make_arbitrary_objects(path):
    with pytest.raises(CheckpointError):
        build({"class_path": path, "init_args": {}})


def test_without_weights_is_a_scope():
    assert not rebuilding()
    with without_weights():
        assert rebuilding()
    assert not rebuilding()


def test_the_signature_of_a_class_is_that_of_its_constructor():
    assert list(inspect.signature(Part).parameters) == list(inspect.signature(Part.__init__).parameters)[1:]
    assert not hasattr(Part(2), "__signature__")  # how an object is called is not how its class is


def test_methods_show_their_settings():
    assert "encoder_lr" in inspect.signature(DepthModule).parameters
    assert list(inspect.signature(UNet).parameters) == list(inspect.signature(UNet.__init__).parameters)[1:]
