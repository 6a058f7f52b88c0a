from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from rich.console import Console

from mde.errors import DataFormatError
from mde.report import Results, depth_figure, metrics_table, read_results, write_results


def example() -> Results:
    return Results(
        metrics={"abs_rel": 0.1, "silog": math.nan},
        baseline={"abs_rel": 0.4, "silog": 30.0},
        protocol={"name": "none", "fingerprint": "abc"},
        images=3,
        skipped=1,
    )


def test_results_round_trip_and_not_a_number_is_null(tmp_path):
    path = tmp_path / "results.json"
    write_results(example(), path)
    assert "NaN" not in path.read_text()
    again = read_results(path)
    assert math.isnan(again.metrics["silog"])
    assert again.baseline == example().baseline
    assert (again.images, again.skipped) == (3, 1)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1, "metrics": {}}'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(DataFormatError, match=r"results\.json"):
        read_results(path)
    with pytest.raises(DataFormatError, match="nowhere"):
        read_results(tmp_path / "nowhere.json")


def test_the_table_has_the_ratio_and_reads_without_colour():
    console = Console(record=True, width=100, color_system=None)
    console.print(metrics_table({"abs_rel": 0.1, "delta1": 0.9}, {"abs_rel": 0.4, "delta1": 0.0}, title="t"))
    lines = console.export_text().splitlines()
    row = next(line for line in lines if "abs_rel" in line)
    assert "0.1000" in row
    assert "0.4000" in row
    assert "0.25" in row
    assert "↑" in next(line for line in lines if "delta1" in line)
    alone = metrics_table({"abs_rel": 0.1}, None, title="t")
    assert len(alone.head) == 2


def drawn(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)


def test_the_figure_shows_unknown_as_grey_and_a_perfect_prediction_like_the_truth():
    image = torch.rand(2, 3, 24, 32)
    depth = torch.rand(2, 1, 48, 64) * 5 + 1
    valid = torch.ones(2, 1, 48, 64, dtype=torch.bool)
    valid[:, :, :24] = False
    figure = depth_figure(image, depth * valid, valid, depth, names=["a", "b"], title="x")
    axes = [axis for axis in figure.axes if axis.images]
    assert len(axes) == 8
    assert [axis.get_title() for axis in axes[:4]] == ["RGB", "truth (m)", "prediction (m)", "absolute error (m)"]
    truth, guess, error = (axes[i].images[0] for i in (1, 2, 3))
    assert truth.get_clim() == guess.get_clim()  # one scale for both
    assert np.ma.getmaskarray(truth.get_array())[:24].all()
    assert np.ma.compressed(error.get_array()).max() == 0
    assert drawn(figure).std() > 10


def test_the_figure_survives_an_image_without_truth():
    depth = torch.zeros(1, 1, 8, 8)
    figure = depth_figure(torch.rand(1, 3, 8, 8), depth, depth > 0, torch.ones(1, 1, 8, 8))
    assert drawn(figure).shape[2] == 3


def test_variants_and_extra_metrics_travel_and_stand_in_the_table(tmp_path):
    results = example()
    results.variants = {"without crf": {"abs_rel": 0.2, "silog": math.nan}}
    results.extra = {"ssim": 0.5, "other": math.nan}
    write_results(results, tmp_path / "results.json")
    assert "NaN" not in (tmp_path / "results.json").read_text()
    again = read_results(tmp_path / "results.json")
    assert again.variants["without crf"]["abs_rel"] == 0.2
    assert math.isnan(again.variants["without crf"]["silog"])
    assert again.extra["ssim"] == 0.5
    assert math.isnan(again.extra["other"])
    console = Console(record=True, width=100, color_system=None)
    console.print(metrics_table({"abs_rel": 0.1}, {"abs_rel": 0.4}, title="t", variants=results.variants))
    row = next(line for line in console.export_text().splitlines() if "abs_rel" in line)
    assert [row.index(text) for text in ("0.1000", "0.2000", "0.4000", "0.25")] == sorted(
        row.index(text) for text in ("0.1000", "0.2000", "0.4000", "0.25")
    )


def test_many_variants_are_rows_and_keep_their_numbers():
    from mde.report.tables import variants_table

    metrics = {"abs_rel": 0.4592, "rmse": 1.5, "delta1": 0.37}
    table = variants_table(
        metrics, {"median": {"abs_rel": 0.337, "rmse": 1.2, "delta1": 0.5}, "scale": {"abs_rel": 0.3}}
    )
    console = Console(width=60, file=io.StringIO(), record=True)
    console.print(table)
    lines = [line.split() for line in console.export_text().splitlines() if "0." in line]
    assert [line[1] for line in lines] == ["network", "median", "scale"]
    assert [line[3] for line in lines] == ["0.4592", "0.3370", "0.3000"]
    assert lines[2][5] == "-"  # unknown
