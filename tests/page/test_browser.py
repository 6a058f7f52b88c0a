"""The page in a real browser: it draws, the divider moves and changes the picture, nothing leaves the page."""

from __future__ import annotations

import base64
import io
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mde.report.page import gather, write_report
from mde.report.page.maps import palette
from mde.report.samples import read_sample
from tests.page.runs import write_run
from tools.browser import BROWSER, DRIVER, MISSING, open_browser, until

selenium = pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
from selenium.webdriver import Chrome, Keys  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402

pytestmark = pytest.mark.skipif(BROWSER is None or DRIVER is None, reason=MISSING)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    driver = open_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("runs")
    return write_run(root / "ours"), write_run(root / "theirs", gains=(1.5, 1.2, 1.3, 1.1), kept=(0, 1, 2))


@pytest.fixture(scope="module")
def opened(browser: Chrome, runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Chrome:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, gather(runs))
    browser.get_log("performance")
    browser.get(path.as_uri())
    until(lambda: browser.execute_script("return document.body.dataset.ready"))
    return browser


def card(browser: Chrome, number: int = 0) -> Any:
    found = browser.find_element("css selector", f'.card[data-image="{number}"]')
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
    return found


def pixels(element: Any) -> NDArray[np.int64]:
    with Image.open(io.BytesIO(element.screenshot_as_png)) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int64)


def read_png(uri: str, mode: str = "RGB") -> NDArray[np.int64]:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.asarray(picture.convert(mode)).astype(np.int64)


def canvas_of(browser: Chrome, selector: str, number: int = 0) -> NDArray[np.int64]:
    """The canvas itself, (h,w,3)."""
    script = "return document.querySelector(arguments[0]).toDataURL()"
    return read_png(browser.execute_script(script, f'.card[data-image="{number}"] {selector}'))


def at(browser: Chrome, element: Any, x: float, y: float) -> ActionChains:
    """Move the mouse to a share of an element's width and height."""
    return ActionChains(browser, duration=20).move_to_element_with_offset(element, *_offset(element, x, y))


def _offset(element: Any, x: float, y: float) -> tuple[int, int]:
    size = element.size
    return round((x - 0.5) * size["width"]), round((y - 0.5) * size["height"])


def drag(browser: Chrome, element: Any, start: float, end: float) -> None:
    """Press the mouse at a share of the width, move, release."""
    held = at(browser, element, start, 0.6).click_and_hold()
    held.move_to_element_with_offset(element, *_offset(element, end, 0.6)).release().perform()


def test_nothing_leaves_the_page_and_the_console_is_silent(opened: Chrome) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    requests = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # the browser's own first tab asks for pages of its own
    sent = [each["request"]["url"] for each in requests if each["documentURL"] == opened.current_url]
    assert [url for url in sent if not url.startswith(("file:", "data:", "blob:"))] == []
    assert sum(url.startswith("file:") for url in sent) == 1  # the page itself
    assert opened.get_log("browser") == []


def test_the_browser_itself_refuses_requests(opened: Chrome) -> None:
    script = "fetch('http://127.0.0.1:9/').then(() => arguments[0]('sent'), (e) => arguments[0](String(e)))"
    assert opened.execute_async_script(script) != "sent"
    assert any("Content Security Policy" in entry["message"] for entry in opened.get_log("browser"))


def test_maps_are_drawn_in_the_colours_of_the_stored_depth(opened: Chrome, runs: tuple[Path, Path]) -> None:
    for selector, run in ((".pred canvas.over", runs[0]), (".pred canvas.under", runs[1])):
        sample = read_sample(run / "samples", 0)
        low, high = np.percentile(sample.depth[sample.known], (1, 99))
        share = np.clip((sample.pred - low) / (high - low), 0, 1)
        expected = palette("viridis_r")[np.rint(255 * share).astype(int)].astype(int)
        assert np.abs(canvas_of(opened, selector) - expected).max() <= 4  # a neighbouring colour at most
    sample = read_sample(runs[0] / "samples", 0)
    truth = canvas_of(opened, "canvas.truth")
    assert (truth[~sample.known] == 191).all()
    assert (canvas_of(opened, ".error canvas.over")[~sample.counted] == 191).all()


def test_the_divider_moves_by_mouse_and_changes_both_pictures(opened: Chrome) -> None:
    one = card(opened)
    pred, error = (one.find_element("css selector", name) for name in (".pred", ".error"))
    divider = pred.find_element("css selector", ".divider")
    pictures = []
    for share in (0.75, 0.25):
        drag(opened, pred, 0.5, share)
        until(lambda share=share: abs(float(divider.get_attribute("aria-valuenow")) - 100 * share) < 3)
        at(opened, one.find_element("css selector", "h4"), 0.5, 0.5).perform()
        pictures.append((pixels(pred), pixels(error)))
    for first, second in zip(*pictures, strict=True):
        height, width = first.shape[:2]
        changed = np.abs(first - second).max(-1) > 8
        rows = slice(height // 5, height)  # below the unknown rows
        assert changed[rows, int(0.35 * width) : int(0.65 * width)].mean() > 0.3  # ours became theirs
        assert changed[rows, int(0.85 * width) :].mean() < 0.05
        assert changed[rows, : int(0.15 * width)].mean() < 0.05


def test_the_divider_moves_by_keyboard(opened: Chrome) -> None:
    divider = card(opened, 1).find_element("css selector", ".pred .divider")
    assert divider.get_attribute("role") == "slider"
    opened.execute_script("arguments[0].focus()", divider)
    before = pixels(card(opened, 1).find_element("css selector", ".pred"))
    seen = []
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.PAGE_UP, Keys.ARROW_LEFT, Keys.END, Keys.ARROW_RIGHT):
        divider.send_keys(key)
        seen.append(int(divider.get_attribute("aria-valuenow")))
    assert seen == [0, 2, 12, 10, 100, 100]
    assert "ours on 100 %" in divider.get_attribute("aria-valuetext")
    after = pixels(card(opened, 1).find_element("css selector", ".pred"))
    assert (np.abs(before - after).max(-1) > 8)[:, -before.shape[1] // 3 :].mean() > 0.2


def test_hover_reads_metres_of_the_stored_maps(opened: Chrome, runs: tuple[Path, Path]) -> None:
    one, samples = card(opened), [read_sample(run / "samples", 0) for run in runs]
    view, readout = one.find_element("css selector", ".view"), one.find_element("css selector", ".readout")
    for x, y in ((0.3, 0.52), (0.7, 0.81)):
        at(opened, view, x, y).perform()
        column, row = int(x * 32), int(y * 24)
        until(lambda where=f"x {column}, y {row}:": readout.text.startswith(where))
        found = [float(value) for value in re.findall(r"(\d+\.\d+) m", readout.text)]
        stored = [samples[0].depth[row, column], *(sample.pred[row, column] for sample in samples)]
        assert found == pytest.approx(stored, rel=3e-4, abs=6e-4)
        errors = [float(value.replace("−", "-")) for value in re.findall(r"\(([+−]\d+\.\d+)\)", readout.text)]
        assert errors == pytest.approx([stored[1] - stored[0], stored[2] - stored[0]], abs=3e-3)
    at(opened, view, 0.5, 0.02).perform()
    until(lambda: "truth unknown" in readout.text)
    at(opened, view, 31.5 / 32, 0.5).perform()
    until(lambda: "not counted" in readout.text)


def test_the_sides_of_the_divider_can_be_chosen(opened: Chrome, runs: tuple[Path, Path]) -> None:
    def choose(key: str, text: str) -> None:
        script = """const s = document.getElementById(arguments[0]);
            s.value = [...s.options].find((o) => o.text === arguments[1]).value;
            s.dispatchEvent(new Event("change"));"""
        opened.execute_script(script, key, text)
        until(lambda: opened.execute_script("return document.body.dataset.ready"))

    choose("left", "RGB")
    rgb = canvas_of(opened, ".pred canvas.over")
    assert np.abs(rgb - read_sample(runs[0] / "samples", 0).image).mean() < 12  # JPEG twice
    assert not opened.find_element("css selector", ".error canvas.over").is_displayed()
    choose("right", "ours")
    choose("left", "theirs")
    assert "theirs (not kept)" in card(opened, 2).text  # attic/d, which it did not keep
    choose("left", "ours")
    choose("right", "theirs")
    opened.find_element("id", "large").click()
    assert len({pane.location["x"] for pane in card(opened).find_elements("css selector", ".view")}) == 2
    opened.find_element("id", "large").click()


def test_the_point_cloud_draws_and_turns(opened: Chrome, runs: tuple[Path, Path]) -> None:
    cloud = opened.find_element("id", "cloud")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", cloud)
    until(lambda: cloud.get_attribute("data-points"))
    sample = read_sample(runs[0] / "samples", 0)
    limit = 1.5 * np.percentile(sample.depth[sample.known], 99)
    assert int(cloud.get_attribute("data-points")) == int((sample.pred <= limit * (1 + 1e-6)).sum())

    def drawn() -> NDArray[np.int64]:
        time.sleep(0.1)  # the next frame
        return read_png(opened.execute_script("return arguments[0].toDataURL()", cloud), "RGBA")[..., 3]

    first = drawn()
    assert (first > 0).mean() > 0.05
    drag(opened, cloud, 0.5, 0.7)
    turned = drawn()
    assert ((first > 0) != (turned > 0)).mean() > 0.02
    cloud.send_keys(Keys.ARROW_UP)
    again = drawn()
    assert ((again > 0) != (turned > 0)).mean() > 0.005
    opened.find_element("id", "cloud-reset").click()
    np.testing.assert_array_equal(drawn(), first)
    assert opened.get_log("browser") == []


def test_it_fits_a_phone_and_prints(opened: Chrome) -> None:
    metrics = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert opened.execute_script("return document.documentElement.scrollWidth") <= 375
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    printed = base64.b64decode(opened.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert printed.startswith(b"%PDF")
    assert len(printed) > 20_000  # the canvases are in it
