from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mde.codecs import Discretized, Disparity, Linear, Log, Reciprocal
from mde.data.base import collate
from mde.errors import ConfigError
from mde.geometry import intrinsics_at, shift_columns
from mde.losses import BerHuLoss, L1Loss, PhotometricLoss, SmoothnessLoss, photometric_loss
from mde.models import SmpEncoder, StereoDepth, TimmEncoder
from mde.models.base import DepthModule
from mde.models.decoders import DenseDepthDecoder
from mde.models.stereo_depth import stereo_terms
from mde.types import Batch
from tests.models.tester import MethodTester
from tests.pairs import rendered, wall_batch


def make(**kwargs: Any) -> StereoDepth:
    settings = {"decoder": partial(DenseDepthDecoder, width=0.05), "scales": 2, **kwargs}
    return StereoDepth(TimmEncoder("test_resnet"), **settings)


def wall_loader(count: int = 4, batch_size: int = 2, **kwargs: Any) -> DataLoader[Batch]:
    whole = wall_batch(count, **kwargs)
    items = [{key: value[i] for key, value in whole.items()} for i in range(count)]  # type: ignore[index]
    return DataLoader(items, batch_size=batch_size, collate_fn=collate)  # type: ignore[arg-type]


class TestStereoDepth(MethodTester):
    overfit_factor = 0.6  # what lies outside of the right picture stays unknown, and smoothness has its price
    batch = staticmethod(wall_batch)
    loader = staticmethod(wall_loader)

    def make(self, **kwargs: Any) -> DepthModule:
        return make(**kwargs)

    def test_batch_without_truth_changes_nothing(self) -> None:
        """What it means here: the loss and its gradient are those of a batch with truth, see below for the weights."""
        model, batch = make().train(), wall_batch()
        known = model.training_loss(batch).loss
        batch["depth"], batch["valid"] = torch.zeros_like(batch["depth"]), torch.zeros_like(batch["valid"])
        assert torch.equal(model.training_loss(batch).loss, known)


class TestSemiSupervised(MethodTester):
    """With labels, at the scales' own sizes, on another codec."""

    overfit_factor = 0.6
    batch = staticmethod(wall_batch)
    loader = staticmethod(wall_loader)

    def make(self, **kwargs: Any) -> DepthModule:
        settings = {"supervised_weight": 1.0, "full_resolution": False, "scales": 3, "codec": Log(0.2, 12.0)}
        return make(**{**settings, **kwargs})

    def test_batch_without_truth_changes_nothing(self) -> None:
        model, batch = self.make().train(), wall_batch()
        batch["depth"], batch["valid"] = torch.zeros_like(batch["depth"]), torch.zeros_like(batch["valid"])
        assert float(model.training_loss(batch).logs["supervised"]) == 0


# ---------------------------------------------------------------------------------------------------- what it minimises


def says(model: StereoDepth, depth: float) -> StereoDepth:
    """The network with heads that say one depth everywhere."""
    low, high = model.codec.encoded_range
    share = (float(model.codec.encode(torch.tensor(depth))) - low) / (high - low)
    for conv in model.heads.convs:
        torch.nn.init.zeros_(conv.weight)  # type: ignore[arg-type]
        torch.nn.init.constant_(conv.bias, float(torch.tensor(share).logit()))  # type: ignore[arg-type]
    return model.eval()


CODECS = [Disparity(0.5, 20.0), Log(0.5, 20.0), Linear(0.5, 20.0), Reciprocal(0.5, 20.0)]


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: type(codec).__name__)
@pytest.mark.parametrize("full_resolution", [True, False])
def test_least_where_the_network_says_the_true_metres(codec: Any, full_resolution: bool) -> None:
    """2 m: nothing but focal length and baseline says so."""
    batch = wall_batch(shift=4)
    model = make(codec=codec, full_resolution=full_resolution)
    losses = []
    for depth in (1.3, 1.6, 1.8, 2.0, 2.2, 2.6, 3.2):
        with torch.no_grad():
            losses.append(float(says(model, depth).training_loss(batch).logs["photometric"]))
            assert model.predict_batch(batch["image"]).flatten()[0] == pytest.approx(depth, rel=1e-4)
    assert losses.index(min(losses)) == 3
    if full_resolution:
        assert losses[3] < 1e-4 < 0.01 * min(losses[2], losses[4])


def test_baseline_and_focal_length_set_the_scale() -> None:
    batch, model = wall_batch(), make(codec=Disparity(0.5, 20.0))
    with torch.no_grad():
        loss = says(model, 2.0).training_loss(batch).loss
        wide = cast(Batch, {**batch, "baseline": 3 * batch["baseline"]})
        torch.testing.assert_close(says(model, 6.0).training_loss(wide).loss, loss, rtol=1e-4, atol=1e-6)
        camera = batch["intrinsics"].clone()
        camera[:, 0, 0] *= 2
        long = cast(Batch, {**batch, "intrinsics": camera})
        torch.testing.assert_close(says(model, 4.0).training_loss(long).loss, loss, rtol=1e-4, atol=1e-6)


def test_the_head_of_the_right_camera_moves_the_other_way() -> None:
    """Only the right head's error remains where the left one is right, and the consistency names it."""
    batch, model = wall_batch(), says(make(codec=Disparity(0.5, 20.0), scales=1), 2.0)
    with torch.no_grad():
        right = model.training_loss(batch).logs
        model.heads.convs[0].bias[1] += 0.5  # type: ignore[operator, index]
        wrong = model.training_loss(batch).logs
        depth = model.predict_batch(batch["image"])
    assert float(right["consistency"]) == pytest.approx(0, abs=1e-6)
    assert float(wrong["consistency"]) > 1e-3
    assert float(wrong["photometric"]) > 10 * float(right["photometric"])
    torch.testing.assert_close(depth, torch.full_like(depth, 2.0), rtol=1e-4, atol=0)


def terms(of_left: Tensor, of_right: Tensor, left: Tensor, right: Tensor) -> dict[str, Tensor]:
    return stereo_terms(of_left, of_right, left, right, PhotometricLoss(), SmoothnessLoss())


def test_a_mirrored_pair_with_swapped_cameras_costs_the_same() -> None:
    pair = [torch.rand(2, 3, 12, 20) for _ in range(2)]
    shares = [torch.rand(2, 1, 12, 20) * 0.3 for _ in range(2)]
    found = terms(*shares, *pair)
    mirrored = terms(*(each.flip(-1) for each in (*reversed(shares), *reversed(pair))))
    for name, term in found.items():
        torch.testing.assert_close(mirrored[name], term, rtol=1e-4, atol=1e-6)


def test_left_and_right_agree_on_a_rendered_street_where_both_see() -> None:
    of_both, swapped = [], []
    for index in range(3):
        _, _, of_left, of_right, both_see = rendered("street", index, 0.54)
        found, _ = shift_columns(of_right, of_left)
        of_both.append((found - of_left).abs()[both_see].mean())
        wrong, _ = shift_columns(of_right, -of_left)
        swapped.append((wrong - of_left).abs()[both_see].mean())
    assert float(torch.stack(of_both).mean()) < 0.05  # pixels
    assert float(torch.stack(of_both).mean()) < 0.1 * float(torch.stack(swapped).mean())


def test_true_disparities_of_a_rendered_street_cost_least() -> None:
    sums = torch.zeros(5)
    for index in range(3):
        left, right, of_left, of_right, _ = rendered("street", index, 0.54)
        for i, factor in enumerate((0.8, 0.9, 1.0, 1.1, 1.25)):
            parts = terms(factor * of_left / 120, factor * of_right / 120, left, right)
            sums[i] += parts["photometric"]
    assert int(sums.argmin()) == 2


def test_what_leaves_the_picture_does_not_count() -> None:
    """A disparity beyond the whole width: nothing to compare, and no gradient but that of smoothness."""
    share = torch.full((1, 1, 8, 10), 1.5, requires_grad=True)
    found = terms(share, share, *torch.rand(2, 1, 3, 8, 10))
    assert float(found["photometric"].detach()) == float(found["consistency"].detach()) == 0
    torch.stack(list(found.values())).sum().backward()
    assert share.grad is not None
    assert share.grad.isfinite().all()


# --------------------------------------------------------------------------------------------------------------- labels


def trained(batch: Batch, **settings: Any) -> list[Tensor]:
    torch.manual_seed(0)
    model = make(**settings).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model.training_loss(batch).loss.backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(map(torch.equal, first, second))


def test_self_supervised_training_never_reads_depth() -> None:
    """Bit for bit the same weights with garbage, and with no depth at all."""
    batch, garbage = wall_batch(), wall_batch()
    garbage["depth"], garbage["valid"] = torch.full_like(batch["depth"], float("nan")), batch["valid"]
    without = cast(Batch, {key: value for key, value in batch.items() if key not in ("depth", "valid")})
    reference = trained(batch)
    assert same(trained(garbage), reference)
    assert same(trained(without), reference)
    assert not same(trained(batch, supervised_weight=0.1), reference)


def test_labels_count_where_they_are_known_and_in_range() -> None:
    batch, other = wall_batch(), wall_batch()
    known = torch.rand(batch["valid"].shape, generator=torch.Generator().manual_seed(0)) < 0.1
    batch["valid"] = known
    other["valid"] = known.clone()
    other["depth"] = torch.where(known, batch["depth"], float("nan"))
    reference = trained(batch, supervised_weight=1.0)
    assert same(trained(other, supervised_weight=1.0), reference)
    far = ~known & (torch.arange(48) < 24)
    other["depth"] = torch.where(far, 500.0, batch["depth"])
    other["valid"] = known | far
    assert same(trained(other, supervised_weight=1.0), reference)


def test_the_supervised_term_is_the_loss_at_full_size_times_its_weight() -> None:
    batch, model = wall_batch(), make(supervised_weight=0.5, loss=L1Loss(), codec=Disparity(0.5, 20.0)).eval()
    with torch.no_grad():
        found = model.training_loss(batch).logs["supervised"]
        raw = model(batch["image"])
    truth = model.codec.encode(batch["depth"])
    torch.testing.assert_close(found, 0.5 * (raw - truth).abs().mean())


def test_logs_are_the_terms_of_the_sum() -> None:
    out = make(supervised_weight=0.2).train().training_loss(wall_batch())
    assert set(out.logs) == {"photometric", "smoothness", "consistency", "supervised"}
    torch.testing.assert_close(torch.stack(list(out.logs.values())).sum(), out.loss.detach())


def test_weights_act_and_smoothness_halves_at_each_coarser_scale() -> None:
    batch = wall_batch()

    def logs(**settings: Any) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return dict(make(**settings).eval().training_loss(batch).logs)

    plain, weighted = logs(), logs(smoothness_weight=0.3, consistency_weight=2.0)
    torch.testing.assert_close(weighted["smoothness"], 3 * plain["smoothness"])
    torch.testing.assert_close(weighted["consistency"], 2 * plain["consistency"])
    torch.testing.assert_close(weighted["photometric"], plain["photometric"])
    torch.manual_seed(0)
    model = make(smoothness_weight=1.0).eval()
    with torch.no_grad():
        raws = model.both_cameras(batch["image"])
        expected = torch.zeros(())
        for scale, raw in enumerate(raws):
            depth = model.codec.decode(torch.nn.functional.interpolate(raw, (32, 48), mode="bilinear"))
            share = intrinsics_at(batch, (32, 48))[0, 0, 0] * 0.2 / depth / 48
            parts = terms(*share.split(1, 1), batch["image"], batch["right"])
            expected += parts["smoothness"] / 2**scale
        torch.testing.assert_close(model.training_loss(batch).logs["smoothness"], expected)


# --------------------------------------------------------------------------------------------------------------- errors


def test_batches_without_a_pair_are_refused_in_training_alone() -> None:
    model = make()
    batch = cast(Batch, {key: value for key, value in wall_batch().items() if key not in ("right", "baseline")})
    with pytest.raises(ConfigError, match=r"no right picture.*data\.stereo: true"):
        model.training_loss(batch)
    assert torch.isfinite(model.output_loss(model(batch["image"]), batch))
    batch = wall_batch()
    batch["intrinsics"] = torch.full_like(batch["intrinsics"], float("nan"))
    with pytest.raises(ConfigError, match="known intrinsics"):
        model.training_loss(batch)


def test_settings_out_of_range_are_refused() -> None:
    encoder = SmpEncoder("resnet18")
    with pytest.raises(ConfigError, match=r"one depth per camera.*Disparity"):
        StereoDepth(encoder, codec=Discretized("sid", 8))
    with pytest.raises(ConfigError, match=r"scales.*1 to 4"):
        StereoDepth(encoder, scales=5)
    for name in ("smoothness", "consistency", "supervised"):
        with pytest.raises(ConfigError, match=f"model.{name}_weight"):
            StereoDepth(encoder, **{f"{name}_weight": -1.0})


def test_defaults() -> None:
    model = StereoDepth(SmpEncoder("resnet18"), depth_range=(1.0, 80.0))
    assert isinstance(model.codec, Disparity)
    assert isinstance(model.loss, BerHuLoss)
    with torch.no_grad():
        for conv in model.heads.convs:
            torch.nn.init.zeros_(conv.weight)  # type: ignore[arg-type]
        start = model.predict_batch(torch.rand(1, 3, 32, 48))
    torch.testing.assert_close(start, torch.full_like(start, 80.0**0.5), rtol=1e-4, atol=0)
    left, right = wall_batch()["image"], wall_batch()["right"]
    seen = torch.ones_like(left[:, :1], dtype=torch.bool)
    assert torch.equal(model.photometric(left, right, seen), photometric_loss(left, right, seen))
