from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.errors import ConfigError, DataFormatError
from mde.metrics import NAMES, DepthMetrics, depth_errors, pixel_sums
from mde.metrics.modular import _PARTS, _tally
from mde.protocol import EvalProtocol
from mde.types import Ambiguity

PROTOCOL = EvalProtocol(max_depth=10.0)


def batch(seed: int, size: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images of very different quality and numbers of measured pixels."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand((size, 1, 12, 17), generator=generator) * 9 + 0.5
    noise = torch.rand((size, 1, 1, 1), generator=generator)
    pred = truth * (noise * torch.randn(truth.shape, generator=generator)).exp()
    valid = torch.rand(truth.shape, generator=generator) < torch.rand((size, 1, 1, 1), generator=generator)
    return pred, truth, valid


def evaluate(*batches: tuple[torch.Tensor, ...], **settings: str) -> dict[str, torch.Tensor]:
    metric = DepthMetrics(PROTOCOL, **settings)
    for pred, truth, valid in batches:
        metric.update(pred, truth, valid)
    return metric.compute()


def test_is_the_mean_of_image_errors() -> None:
    pred, truth, valid = batch(0)
    made = evaluate((pred, truth, valid))
    errors = depth_errors(*PROTOCOL.prepare(pred, truth, valid)[:1], truth, PROTOCOL.mask(truth, valid))
    for name in NAMES:
        assert made[name].dtype == torch.float64
        assert made[name].item() == pytest.approx(errors[name].mean().item(), rel=1e-8, abs=1e-9)


def test_pixel_pooling_is_one_big_image() -> None:
    pred, truth, valid = batch(1)
    pooled = evaluate((pred, truth, valid), pooling="pixel")
    tall = [t.reshape(1, 1, -1, 17) for t in (pred, truth, valid)]
    for name, value in evaluate((tall[0], tall[1], tall[2])).items():
        assert pooled[name].item() == pytest.approx(value.item(), rel=1e-6)
    mask = valid & (truth > 1e-3) & (truth < 10)
    square = ((pred.clamp(1e-3, 10) - truth)[mask].double() ** 2).mean()
    assert pooled["rmse"].item() == pytest.approx(square.sqrt().item(), rel=1e-6)
    # torchmetrics pools pixels as well, which is not what depth tables show
    theirs = torchmetrics.MeanSquaredError(squared=False)
    theirs.update(pred.clamp(1e-3, 10)[mask], truth[mask])
    assert theirs.compute().item() == pytest.approx(pooled["rmse"].item(), rel=1e-5)
    assert evaluate((pred, truth, valid))["rmse"].item() != pytest.approx(pooled["rmse"].item(), rel=1e-2)


def test_pooling_comes_from_the_protocol_unless_given() -> None:
    assert DepthMetrics(EvalProtocol(pooling="pixel")).pooling == "pixel"
    assert DepthMetrics(EvalProtocol(pooling="pixel"), pooling="image").pooling == "image"
    with pytest.raises(ConfigError, match="pooling"):
        DepthMetrics(PROTOCOL, pooling="batch")


@given(seed=st.integers(0, 10**6), cuts=st.sets(st.integers(1, 6)))
@settings(max_examples=15, deadline=None)
def test_neither_batch_size_nor_order_changes_a_bit(seed: int, cuts: set[int]) -> None:
    data = batch(seed)
    together = evaluate(data)
    edges = [0, *sorted(cuts), 7]
    parts = [tuple(t[a:b] for t in data) for a, b in pairwise(edges)]
    for made in (evaluate(*parts), evaluate(*reversed(parts))):
        assert {k: v.item() for k, v in made.items()} == {k: v.item() for k, v in together.items()}


@pytest.mark.parametrize("pooling", ["image", "pixel"])
def test_states_of_processes_add_up(pooling: str) -> None:
    data = batch(2)
    whole = DepthMetrics(PROTOCOL, pooling=pooling)
    first, second = whole.clone(), whole.clone()
    whole.update(*data)
    first.update(*(t[:3] for t in data))
    second.update(*(t[3:] for t in data))
    first.merge_state(second)
    assert first.counts() == whole.counts()
    for name, value in whole.compute().items():
        assert first.compute()[name].item() == pytest.approx(value.item(), rel=0 if pooling == "image" else 1e-12)


def test_counts_and_skipped_images() -> None:
    pred, truth, valid = batch(3)
    valid[2] = False
    truth[4] = 50.0  # beyond the cap
    metric = DepthMetrics(PROTOCOL)
    metric.update(pred, truth, valid)
    mask = PROTOCOL.mask(truth, valid)
    assert metric.counts() == (5, int(mask.sum()), 2, 0)
    kept = [0, 1, 3, 5, 6]
    others = DepthMetrics(PROTOCOL)
    others.update(pred[kept], truth[kept], valid[kept])
    assert {k: v.item() for k, v in metric.compute().items()} == {k: v.item() for k, v in others.compute().items()}
    metric.reset()
    assert metric.counts() == (0, 0, 0, 0)


def test_padded_duplicates_are_left_out_entirely() -> None:
    pred, truth, valid = batch(4)
    padded = [torch.cat((t, t[:2])) for t in (pred, truth, valid)]
    padded[0][7:] = float("nan")  # and nothing of them is looked at
    metric = DepthMetrics(PROTOCOL)
    metric.update(*padded, counts=torch.arange(9) < 7)
    alone = DepthMetrics(PROTOCOL)
    alone.update(pred, truth, valid)
    assert metric.counts() == alone.counts()
    assert {k: v.item() for k, v in metric.compute().items()} == {k: v.item() for k, v in alone.compute().items()}
    with pytest.raises(ConfigError, match="counts"):
        metric.update(pred, truth, valid, counts=torch.ones(7))


def test_nothing_evaluated_is_nan() -> None:
    pred, truth, valid = batch(5)
    made = evaluate((pred, truth, torch.zeros_like(valid)))
    assert all(v.isnan() for v in made.values())


def test_a_nan_that_counts_is_refused_and_names_its_image() -> None:
    pred, truth, valid = batch(6)
    valid[4, 0, 3, 3] = True
    pred[4, 0, 3, 3] = float("nan")
    metric = DepthMetrics(PROTOCOL)
    with pytest.raises(DataFormatError, match="image 4 of the batch"):
        metric.update(pred, truth, valid)
    assert metric.counts().images == 0
    valid[4, 0, 3, 3] = False
    metric.update(pred, truth, valid)  # where nothing counts it does not matter
    assert metric.counts().images == 7


def test_a_nan_that_was_not_seen_at_once_does_not_vanish() -> None:
    # off the CPU `update` does not look at values: what it then adds is NaN
    pred, truth, valid = batch(6)
    metric = DepthMetrics(PROTOCOL)
    metric.update(pred, truth, valid)
    metric.state = torch.cat((torch.full_like(metric.state[:10], torch.nan), metric.state[10:]))
    with pytest.raises(DataFormatError, match="NaN"):
        metric.compute()


def test_infinity_is_clamped_like_any_number_out_of_range() -> None:
    truth = torch.full((1, 1, 2, 2), 5.0)
    made = evaluate((torch.full_like(truth, float("inf")), truth, truth > 0))
    assert made["rmse"].item() == 5.0


def test_relative_predictions_are_aligned_and_fallbacks_counted() -> None:
    _, truth, valid = batch(7, size=3)
    valid[:, :, :2] = True
    pred = (1 / truth - 0.05) / 3
    pred[1] = 0.7
    metric = DepthMetrics(EvalProtocol(max_depth=10.0, alignment="disparity_scale_shift"), prefix="val/")
    metric.update(pred, truth, valid, Ambiguity.AFFINE_DISPARITY)
    assert metric.counts().degenerate == 1
    metric.reset()
    metric.update(pred[::2], truth[::2], valid[::2], Ambiguity.AFFINE_DISPARITY)
    assert metric.compute()["val/abs_rel"].item() == pytest.approx(0, abs=1e-6)
    with pytest.raises(ConfigError, match="scale_shift"):
        metric.update(pred, truth, valid, Ambiguity.AFFINE_DEPTH)


def test_inputs_stay_and_gradients_are_not_needed() -> None:
    data = batch(8)
    before = [t.clone() for t in data]
    DepthMetrics(PROTOCOL).update(data[0].requires_grad_(), data[1], data[2])
    for now, then in zip(data, before, strict=True):
        assert torch.equal(now, then)


def test_states_of_inference_mode_go_on_outside_of_it() -> None:
    data = batch(9)
    metric = DepthMetrics(PROTOCOL)
    with torch.inference_mode():
        metric.update(*data)
        metric.reset()
        metric.update(*data)
    metric.update(*data)
    assert metric.counts().images == 14


def test_half_precision_modules_keep_float64_states() -> None:
    metric = torch.nn.ModuleList([DepthMetrics(PROTOCOL)]).half()[0]
    assert isinstance(metric, DepthMetrics)
    assert metric.state.dtype == torch.float64


class _Delta(torchmetrics.Metric):
    """A delta as it is usually written: a sum and a count."""

    good: torch.Tensor
    pixels: torch.Tensor

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        self.add_state("good", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("pixels", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, pred: torch.Tensor, truth: torch.Tensor) -> None:
        self.good = self.good + (torch.maximum(pred / truth, truth / pred) < self.threshold).sum()
        self.pixels = self.pixels + truth.numel()

    def compute(self) -> torch.Tensor:
        return self.good / self.pixels


def test_an_easy_first_batch_does_not_merge_the_deltas() -> None:
    truth = torch.full((1, 1, 4, 4), 4.0)
    easy, hard = truth * 1.01, truth * torch.tensor([1.1, 1.4, 1.7, 2.4])
    separate = {f"delta{k}": _Delta(1.25**k) for k in (1, 2, 3)}
    collection = torchmetrics.MetricCollection(separate)
    ours = DepthMetrics(EvalProtocol(max_depth=100.0))
    for pred in (easy, hard):
        collection.update(pred, truth)
        ours.update(pred, truth, truth > 0)
    merged = [collection.compute()[f"delta{k}"].item() for k in (1, 2, 3)]
    assert merged[0] == merged[1] == merged[2]  # the trap, as torchmetrics has it
    made = ours.compute()
    assert [made[f"delta{k}"].item() for k in (1, 2, 3)] == [(1 + share) / 2 for share in (0.25, 0.5, 0.75)]


WORKER = """
import sys
import torch
import torch.distributed as dist
from mde.metrics import DepthMetrics
from mde.protocol import EvalProtocol

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
data = torch.load(f"{folder}/data.pt")
metric = DepthMetrics(EvalProtocol(max_depth=10.0))
picked = torch.tensor([0, 2, 4, 6] if rank == 0 else [1, 3, 5, 0])  # the last of rank 1 pads
counts = torch.tensor([True, True, True, rank == 0])
for i in range(0, 4, 2):
    metric.update(*(t[picked[i : i + 2]] for t in data), counts=counts[i : i + 2])
torch.save((dict(metric.compute()), tuple(metric.counts())), f"{folder}/made{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path) -> None:
    data = batch(10)
    torch.save(data, tmp_path / "data.pt")
    (tmp_path / "worker.py").write_text(WORKER)
    # a script of its own, as a spawned child could not import this module by name
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "worker.py")]
    workers = [subprocess.Popen([*command, str(rank), str(tmp_path)], env=environment) for rank in (0, 1)]
    assert [worker.wait(timeout=900) for worker in workers] == [0, 0]
    alone = DepthMetrics(PROTOCOL)
    alone.update(*data)
    for rank in (0, 1):
        made, counts = torch.load(tmp_path / f"made{rank}.pt")
        assert counts == tuple(alone.counts())
        assert {k: v.item() for k, v in made.items()} == {k: v.item() for k, v in alone.compute().items()}


def test_rounding_of_image_errors_is_far_below_their_noise() -> None:
    pred, truth, valid = batch(11, size=1)
    made = evaluate((pred, truth, valid))
    exact = depth_errors(pred.clamp(1e-3, 10), truth, PROTOCOL.mask(truth, valid))
    assert max(abs(made[name].item() - exact[name].item()) for name in NAMES) <= 2.0**-35
    assert np.isfinite([v.item() for v in made.values()]).all()


ORACLE = Path(__file__).parents[2] / "../shared/facts/metric_oracle.json"


def test_rmse_of_mean_squares() -> None:
    pred, truth, valid = batch(12)
    plain, made = evaluate((pred, truth, valid)), evaluate((pred, truth, valid), pooling="mse")
    errors = depth_errors(pred.clamp(1e-3, 10), truth, PROTOCOL.mask(truth, valid))
    assert made["rmse"].item() == pytest.approx((errors["rmse"] ** 2).mean().sqrt().item(), rel=1e-7)
    assert {k: v.item() for k, v in made.items() if k != "rmse"} == {
        k: v.item() for k, v in plain.items() if k != "rmse"
    }


@pytest.mark.parametrize("sizes", [(37,), (16, 16, 5), (1,) * 37, (7, 30)])
def test_rmse_of_sixteen_images_in_a_row_whatever_the_batch_size(sizes: tuple[int, ...]) -> None:
    pred, truth, valid = batch(13, size=37)
    valid[3] = False  # has its place among the sixteen
    valid[32:] = False  # a last group without a pixel is left out
    metric = DepthMetrics(PROTOCOL, pooling="batch16")
    for part in torch.split(torch.arange(37), list(sizes)):
        metric.update(pred[part], truth[part], valid[part])
    mask, p, g = PROTOCOL.mask(truth, valid), pred.clamp(1e-3, 10).double(), truth.double()
    groups = [((p - g)[i : i + 16][mask[i : i + 16]] ** 2).mean().sqrt() for i in (0, 16)]
    assert metric.compute()["rmse"].item() == pytest.approx(torch.stack(groups).mean().item(), rel=1e-6)
    metric.reset()
    metric.update(pred[:5], truth[:5], valid[:5])
    expected = ((p - g)[:5][mask[:5]] ** 2).mean().sqrt()
    assert metric.compute()["rmse"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_all_definitions_of_the_oracle() -> None:
    if not ORACLE.exists():
        pytest.skip("no shared folder with the oracle beside the repository")
    known = json.loads(ORACLE.read_text())
    truth, pred = (torch.tensor(known[k], dtype=torch.float64).view(2, 1, 2, 3) for k in ("gt", "pred"))
    names = {
        "si_log_mse": "paper2_rmselog_literal_no_sqrt",
        "rmse_log_si": "paper2_rmselog_sqrt",
        "silog_eigen": "eigen_si_half",
        "silog_half": "dav2_silog_half_lambda",
    }
    for pooling, key in (("image", "mean_over_images"), ("pixel", "pooled"), ("mse", "mean_over_images")):
        metric = DepthMetrics(EvalProtocol(max_depth=80.0, pooling=pooling))
        metric.update(pred, truth, truth > 0)
        for ours, theirs in names.items():
            assert metric.other_definitions()[ours].item() == pytest.approx(known[key][theirs], rel=1e-8)
        if pooling == "mse":
            assert metric.compute()["rmse"].item() == pytest.approx(known["rmse_paper0"], rel=1e-8)


@pytest.mark.parametrize(
    ("settings", "column", "other"),
    [
        ({"silog": "eigen"}, "silog", "silog_eigen"),
        ({"silog": "half"}, "silog", "silog_half"),
        ({"rmse_log": "si"}, "rmse_log", "rmse_log_si"),
        ({"rmse_log": "si_mse"}, "rmse_log", "si_log_mse"),
    ],
)
@pytest.mark.parametrize("pooling", ["image", "pixel"])
def test_a_column_is_what_its_protocol_calls_so(
    settings: dict[str, str], column: str, other: str, pooling: str
) -> None:
    metric = DepthMetrics(EvalProtocol(max_depth=10.0, pooling=pooling, **settings))
    metric.update(*batch(14))
    made = metric.compute()
    assert made[column].item() == metric.other_definitions()[other].item()
    assert metric.last is not None
    assert metric.last.errors.shape == (7, 10)
    if pooling == "image":
        seen = metric.last.pixels > 0
        mean = metric.last.errors[seen, NAMES.index(column)].mean().item()
        assert mean == pytest.approx(made[column].item(), rel=1e-8)


def test_what_a_batch_adds_is_the_same_in_arrays_and_in_tensors() -> None:
    pred, truth, valid = batch(15)
    valid[2] = False
    sums = pixel_sums(pred, truth, valid)
    fallen, counted = torch.arange(7) == 3, torch.arange(7) != 2
    size = sum(_PARTS)
    arrays = _tally(PROTOCOL, np.zeros(size), *(t.numpy() for t in (sums, fallen, counted)))
    tensors = _tally(PROTOCOL, torch.zeros(size, dtype=torch.float64), sums, fallen, counted)
    for ours, theirs in zip(arrays, tensors, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)
    assert arrays[1][-3:].tolist() == [6, 0, 1]
