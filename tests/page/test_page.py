"""The page as text: codes are exact to their promise, the size is bounded, and what is missing is said."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mde.errors import ConfigError, DataFormatError, ProtocolMismatchError
from mde.report.figures import ComparedImage, comparison_figure
from mde.report.page import gather, write_figure, write_report
from mde.report.page.charts import curve_charts
from mde.report.page.maps import codes, from_codes, pack_bits, pack_codes
from mde.report.page.tables import marked
from mde.report.results import Results
from mde.report.samples import KeptImage, Sample, Samples, write_sample, write_samples
from mde.types import Ambiguity
from tests.page.runs import CAMERA, PROTOCOL, sample_of, truth_of, write_run

UNKNOWN_CAMERA = ((math.nan,) * 3,) * 3


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 1e4))
def test_a_code_is_the_depth_to_a_fortieth_of_a_percent(depth: float) -> None:
    assert from_codes(codes(np.array([depth])))[0] == pytest.approx(depth, rel=1 / 4096 + 1e-9)


def test_no_number_has_the_code_zero() -> None:
    assert codes(np.array([0.0, -1.0, np.nan, np.inf])).tolist() == [0, 0, 0, 0]
    assert from_codes(np.zeros(2, np.uint16)).tolist() == [0, 0]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 999))
def test_packed_maps_unpack_by_the_written_rule(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 65536, (height, width), dtype=np.uint16)
    data = np.frombuffer(zlib.decompress(base64.b64decode(pack_codes(values))), np.uint8).reshape(2, height, width)
    steps = data[0].astype(np.uint64) * 256 + data[1]
    np.testing.assert_array_equal(np.cumsum(steps, axis=1) % 65536, values)
    mask = rng.random((height, width)) < 0.5
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(pack_bits(mask))), np.uint8))
    np.testing.assert_array_equal(bits[: mask.size].reshape(mask.shape), mask)


def page_of(tmp_path: Path, *runs: Path | str, force: bool = False, **kwargs: Any) -> str:
    write_report(tmp_path / "out" / "page.html", gather(runs, force=force), **kwargs)
    return (tmp_path / "out" / "page.html").read_text(encoding="utf-8")


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None
    return dict(json.loads(found[1]))


class _Addresses(HTMLParser):
    """Every address that a browser would fetch, and the balance of the elements."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "link", "img", "input", "br", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "circle"):
            assert self.open.pop() == tag


def test_the_page_stands_alone_and_is_whole(tmp_path: Path) -> None:
    text = page_of(tmp_path, write_run(tmp_path / "a"), write_run(tmp_path / "b", gains=(1.2, 1.1, 1.5, 1.3)))
    parser = _Addresses()
    parser.feed(text)
    assert parser.open == []
    assert parser.found
    assert all(address.startswith(("data:", "#")) for address in parser.found)
    assert not re.search(r"url\(|@import|https?://|fetch\(|XMLHttpRequest|WebSocket", text)
    assert "default-src 'none'" in text
    assert {f"#image-{n}" for n in range(4)} == {address for address in parser.found if address.startswith("#")}


def test_it_shows_the_numbers_of_the_results(tmp_path: Path) -> None:
    ranges = {"ranges": {"0-2": {"abs_rel": 0.111}, "2-5": {"abs_rel": 0.222}}}
    first = write_run(tmp_path / "a", tables=ranges, versions={"torch": "9.9"}, data_facts={"split": "eigen"})
    text = page_of(tmp_path, f"ours={first}", title="A & B")
    assert "<h1>A &amp; B</h1>" in text
    for shown in (PROTOCOL.fingerprint, "0.2500", "0.5000", "constant (3.00 m)", "torch 9.9", "eigen", "0-2", "0.2220"):
        assert shown in text, shown
    assert "hall (2)" in text  # scenes: mean of 0.1 and 0.3, mean of 0.2 and 0.4
    assert text.index("attic (2)") < text.index("hall (2)")
    assert "0.3000" in text[text.index("attic (2)") :][:200]
    worst = re.findall(r'#image-\d+"><span class="mono">([^<]+)', text)
    assert worst == ["attic/d", "hall/b", "attic/c", "hall/a"]
    assert "val/abs_rel" in text


@pytest.mark.parametrize(
    ("metric", "best"), [("abs_rel", 0), ("delta1", 2), ("points_f_score", 2), ("within_1_std", None)]
)
def test_the_best_of_each_metric_stands_out(metric: str, best: int | None) -> None:
    """The lowest error, the highest share, and nothing where neither end is good."""
    cells = marked(metric, [0.1, 0.2, 0.3], ["a", "b", "c"])
    assert [cell.best for cell in cells] == [number == best for number in range(3)]


def test_the_data_are_the_stored_maps(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    data = data_of(page_of(tmp_path, run))
    image = data["images"][0]
    assert (image["width"], image["height"]) == (32, 24)
    expected = sample_of(0, "hall/a")
    assert image["preds"][0] == pack_codes(codes(expected.pred.astype(np.float16)))
    assert image["truth"] == pack_codes(codes(expected.depth.astype(np.float16)))
    known = truth_of(0)[truth_of(0) > 0]
    assert image["low"] == pytest.approx(np.percentile(known, 1), rel=1e-3)
    assert image["high"] == pytest.approx(np.percentile(known, 99), rel=1e-3)
    assert image["camera"] == [40, 40, 15.5, 11.5]
    assert "rgb" not in image


def test_hundred_images_stay_below_25_mb(tmp_path: Path) -> None:
    """Noise is the worst case for any compression; smooth maps take a fifth of it."""
    run, rng = write_run(tmp_path / "a", kept=()), np.random.default_rng(0)
    folder, shape = run / "samples", (360, 480)
    depth = rng.uniform(0.5, 9.5, shape).astype(np.float32)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    sample = Sample("0", image, depth, depth > 0, np.roll(depth, 1), np.array(CAMERA))
    write_sample(folder, 0, sample)
    held = {suffix: (folder / f"000000.{suffix}").read_bytes() for suffix in ("npz", "jpg")}
    for number in range(100):
        for suffix, content in held.items():
            (folder / f"{number:06d}.{suffix}").write_bytes(content)
    images = [KeptImage(str(number), number, 0.1, True, False) for number in range(100)]
    write_samples(Samples(folder, images, "metric", PROTOCOL.fingerprint))
    text = page_of(tmp_path, run)
    assert len(data_of(text)["images"]) == 100
    assert len(text) < 25_000_000


def test_runs_under_different_protocols_are_refused_unless_forced(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a")
    other = write_run(tmp_path / "b", protocol=replace(PROTOCOL, max_depth=8.0))
    with pytest.raises(ProtocolMismatchError, match=r"max_depth: 10\.0 against 8\.0.*Next: .*--force"):
        gather([first, other])
    text = page_of(tmp_path, first, other, force=True)
    assert "b †" in text
    assert "not comparable" in text
    assert "max_depth: 10.0 against 8.0" in text
    assert "image by image" not in text  # no paired test of what cannot be compared
    assert "image by image" in page_of(tmp_path, first, write_run(tmp_path / "c", gains=(1.2, 1.1, 1.5, 1.3)))


def test_the_same_id_with_another_truth_is_not_put_side_by_side(tmp_path: Path) -> None:
    content = gather([write_run(tmp_path / "a"), write_run(tmp_path / "b", first=50)])
    shown = content.shown("hall/a", 480)
    assert shown is not None
    assert list(shown.samples) == ["a"]
    assert any("the truth of hall/a is not that of a" in note for note in content.notes)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    first, second = write_run(tmp_path / "a"), write_run(tmp_path / "b", kept=(0, 1), camera=UNKNOWN_CAMERA)
    content = gather([first, second])
    assert any(note.startswith("b: 1 image(s) of the gallery not kept: attic/c") for note in content.notes)
    assert data_of(page_of(tmp_path, first, second))["images"][1]["preds"][1] is None
    assert "cameras of these images are unknown" in page_of(tmp_path, second)
    for path in (*second.glob("samples/*"), second / "per_image.csv", second / "metrics.csv"):
        path.unlink()
    bare = page_of(tmp_path, second)
    assert "the run kept no images" in bare
    assert "no errors per image" in bare
    assert 'id="cloud"' not in bare
    assert "<svg" not in bare
    assert "0.2500" in bare


def test_a_relative_prediction_is_said_to_be_aligned(tmp_path: Path) -> None:
    protocol = replace(PROTOCOL, alignment="disparity_scale_shift")
    run = write_run(tmp_path / "a", protocol=protocol, ambiguity=Ambiguity.AFFINE_DISPARITY.value)
    assert "predicts affine disparity, not metres" in page_of(tmp_path, run)
    assert "disparity_scale_shift" in " ".join(gather([run]).notes)


def test_samples_of_another_test_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    write_samples(Samples(run / "samples", [], "metric", "of another"))
    content = gather([run])
    assert content.methods[0].samples is None
    assert "another test" in content.notes[0]


def test_bad_input_ends_with_the_next_action(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    with pytest.raises(DataFormatError, match="Next: "):
        gather([tmp_path / "nowhere"])
    with pytest.raises(ConfigError, match="Next: "):
        gather([])
    with pytest.raises(ConfigError, match=r"1 image\(s\) not among those kept: hall/x\. Next: nearest: hall/"):
        write_report(tmp_path / "x.html", gather([run]), ids=["hall/x", "hall/a"])
    scores = (run / "per_image.csv").read_text()
    (run / "per_image.csv").write_text(scores[:-9])
    with pytest.raises(DataFormatError, match=r"per_image\.csv.*Next: "):
        gather([run])
    (run / "per_image.csv").unlink()
    (run / "metrics.csv").write_text("epoch,step,val/loss\n0,7,0.9\n1")
    assert gather([run]).methods[0].name == "a"
    (run / "metrics.csv").write_text("epoch,step,val/loss\n0,7,zero\n")
    assert "metrics.csv is damaged" in gather([run]).notes[0]


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    evil = '</script><img src=x onerror="alert(1)">'
    run = write_run(tmp_path / "a", ids=(evil, "b", "c", "d"), model=evil)
    text = page_of(tmp_path, f"{evil.replace('=', '')}={run}")
    assert text.count("</script>") == text.count("<script")
    assert "<img src=x" not in text


def test_curves_with_one_point_or_none() -> None:
    one = np.array([1.0]), np.array([0.5])
    assert curve_charts({"a": {}}) == ""
    drawn = curve_charts({"a": {"val/loss": one}, "b": {"val/loss": (one[0], np.array([np.nan]))}})
    assert drawn.count("<polyline") == 1
    assert "nan" not in drawn
    steep = curve_charts({"a": {"val/loss": (np.array([1.0, 2.0]), np.array([1e5, 0.1]))}})
    assert ">0.1</text>" in steep
    assert ">1e+05</text>" in steep


# ---- the figure ------------------------------------------------------------------------------------------------------


def test_equal_colours_are_equal_depths_in_the_whole_figure() -> None:
    one, two = truth_of(0), truth_of(1)
    rgb = np.zeros((24, 32, 3), np.uint8)
    rows = [ComparedImage("x", rgb, one, {"A": one, "B": 2 * one}), ComparedImage("y", rgb, two, {"A": two})]
    figure = comparison_figure(rows, ["A", "B"], "t")
    axes = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in axes[:4]] == ["RGB", "truth", "A", "B"]
    maps = [axis.images[0] for axis in axes if axis.images[0].get_array().ndim == 2]
    known = np.concatenate((one[one > 0], two[two > 0]))
    assert {image.get_clim() for image in maps} == {tuple(float(np.percentile(known, q)) for q in (1, 99))}
    assert np.ma.getmaskarray(maps[0].get_array())[:2].all()  # unknown truth
    assert np.ma.getmaskarray(maps[-1].get_array()).all()  # B has no second image
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels.count("depth (m)") == 1


def test_the_figure_is_written_as_png_and_pdf(tmp_path: Path) -> None:
    content = gather([write_run(tmp_path / "a")])
    for name, start in (("f.png", b"\x89PNG"), ("f.pdf", b"%PDF")):
        write_figure(tmp_path / "new" / name, content, ["hall/a", "attic/d"])
        assert (tmp_path / "new" / name).read_bytes().startswith(start)
    with pytest.raises(ConfigError, match="Next: nearest"):
        write_figure(tmp_path / "f.png", content, ["hall"])
    with pytest.raises(ConfigError, match="Next: test again"):
        write_figure(tmp_path / "f.png", content, [])


def test_results_need_not_have_a_constant_predictor(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", baseline=None)
    assert "constant" not in page_of(tmp_path, run)
    assert Results(metrics={}, protocol={}, images=0, skipped=0).baseline is None
