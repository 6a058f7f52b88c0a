"""The page in a real browser: numbers under the pointer, colours, anchors, clouds, downloads, bad files, webcam."""

from __future__ import annotations

import base64
import io
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import mde
from tests.demo.made import Known, picture
from tools.browser import BROWSER, DRIVER, MISSING, open_browser, until

pytest.importorskip("gradio", reason="needs gradio: pip install 'mde[demo]'")
pytest.importorskip("selenium", reason="needs selenium: pip install selenium")
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.action_chains import ActionChains

pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None or DRIVER is None, reason=MISSING)]

SIZE = (48, 64)
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--enable-unsafe-swiftshader")
A, B = Known(1.0), Known(1.5, name="Other")
WAIT = 120  # seconds, for machines with other work; usually one or two


@pytest.fixture(scope="module")
def served() -> Iterator[Any]:
    from mde.demo import serve

    with serve([mde.Predictor(A), mde.Predictor(B)], max_mb=0.2, max_megapixels=1) as made:
        yield made
    assert not made.folder.exists()


@pytest.fixture(scope="module")
def browser(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    driver = open_browser(tmp_path_factory.mktemp("profile"), (1400, 1500), CAMERA)
    driver.get_log("performance")
    driver.get(served.url)
    until(lambda: driver.find_elements("css selector", ".mde-view .empty"), WAIT)
    yield driver
    driver.quit()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Lies on its side, and EXIF says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.png"
    Image.fromarray(np.rot90(picture(*SIZE))).save(path, exif=exif)
    return path


@pytest.fixture
def shown(browser: Chrome, photo: Path) -> Chrome:
    """The page with the photograph."""
    drop(browser, photo)
    until(lambda: "photo.png, 64 x 48 pixels" in text(browser, "about"), WAIT)
    return browser


def drop(browser: Chrome, path: Path) -> None:
    field = until(lambda: browser.find_elements("css selector", "#upload input[type=file]"), WAIT)[0]
    field.send_keys(str(path))


def text(browser: Chrome, key: str) -> str:
    return browser.execute_script("return document.getElementById(arguments[0])?.innerText ?? ''", key)


def typed(browser: Chrome, key: str, words: str) -> None:
    field = browser.find_element("css selector", f"#{key} input, #{key} textarea")
    field.send_keys(Keys.CONTROL + "a" + Keys.NULL + Keys.DELETE + words + Keys.TAB)


def value(browser: Chrome) -> Any:
    """What the viewer has of the second network: its layer as drawn, uint8 (H,W,3)."""
    uri = browser.execute_script("return document.querySelector('.mde-view .under').src")
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as opened:
        return np.asarray(opened.convert("RGB"))


def at(browser: Chrome, column: int, row: int) -> ActionChains:
    """The pointer at the middle of a pixel of the picture."""
    frame = browser.find_element("css selector", ".mde-view .frame")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", frame)
    box = frame.size
    x = ((column + 0.5) / SIZE[1] - 0.5) * box["width"]
    y = ((row + 0.5) / SIZE[0] - 0.5) * box["height"]
    return ActionChains(browser, duration=20).move_to_element_with_offset(frame, round(x), round(y))


def readout(browser: Chrome, column: int, row: int) -> str:
    at(browser, column, row).perform()
    found = browser.find_element("css selector", ".mde-view .readout")
    return until(lambda: found.text.startswith(f"x {column}, y {row}: ") and found.text, WAIT)


def metres(words: str) -> list[float]:
    return [float(number) for number in re.findall(r"(\d+\.\d+) m", words)]


def test_the_pointer_reads_metres_of_the_maps(shown: Chrome) -> None:
    depth = A.depth(picture(*SIZE))
    for column, row in ((40, 9), (50, 30), (10, 44)):
        words = readout(shown, column, row)
        assert metres(words) == pytest.approx([depth[row, column], depth[row, column] + 0.5, 0.5], abs=6e-4)
        assert "A: Known" in words
        assert "A − B −0.500 m" in words
    assert readout(shown, 3, 3) == "x 3, y 3: A: Known unknown · B: Other unknown"


def test_the_divider_moves_and_the_layers_can_be_chosen(shown: Chrome) -> None:
    divider = shown.find_element("css selector", ".mde-view .divider")
    ActionChains(shown, duration=20).click_and_hold(divider).move_by_offset(120, 0).release().perform()
    box = shown.find_element("css selector", ".mde-view .frame").size
    assert int(divider.get_attribute("aria-valuenow")) == pytest.approx(50 + 12000 / box["width"], abs=2)
    for key, expected in ((Keys.HOME, 0), (Keys.PAGE_UP, 10), (Keys.END, 100)):
        divider.send_keys(key)
        assert int(divider.get_attribute("aria-valuenow")) == expected
    drawn = pixels(shown)
    choose = "const s = document.querySelector('.mde-view .left select'); s.value = arguments[0];"
    for name in ("picture", "difference", "A: Known"):
        shown.execute_script(f"{choose} s.dispatchEvent(new Event('change'))", name)
        again = pixels(shown)
        assert (np.abs(again - drawn).max(-1) > 8).mean() > 0.2
        drawn = again


def pixels(browser: Chrome) -> NDArray[np.int64]:
    frame = browser.find_element("css selector", ".mde-view .frame")
    ActionChains(browser).move_to_element(browser.find_element("id", "about")).perform()
    until(lambda: browser.execute_script("return [...document.querySelectorAll('.frame img')].every(i => i.complete)"))
    with Image.open(io.BytesIO(frame.screenshot_as_png)) as opened:
        return np.asarray(opened.convert("RGB")).astype(np.int64)


def test_colours_follow_the_fields_and_wrong_fields_are_named(shown: Chrome) -> None:
    first = value(shown)
    typed(shown, "near", "2")
    until(lambda: "no far end" in text(shown, "trouble"), WAIT)
    typed(shown, "far", "4")
    until(lambda: (value(shown) != first).any(), WAIT)
    result = mde.Predictor(B)(picture(*SIZE))
    from mde.inference.outputs import ColourScale

    np.testing.assert_array_equal(value(shown), result.colorize(ColourScale(2, 4)))
    assert text(shown, "trouble").strip() == ""
    assert "off the colour scale" in readout(shown, 63, 47)
    typed(shown, "near", "")
    typed(shown, "far", "")
    until(lambda: np.array_equal(value(shown), first), WAIT)


def test_an_anchor_by_a_click_changes_the_metres(shown: Chrome) -> None:
    before = metres(readout(shown, 12, 30))
    shown.find_element("xpath", "//*[contains(text(), 'Anchors')]/ancestor-or-self::button").click()
    field = until(lambda: shown.find_elements("css selector", "#anchors textarea"), WAIT)[0]
    at(shown, 20, 25).click().perform()
    until(lambda: field.get_attribute("value") == "20,25,", WAIT)
    typed(shown, "anchors", f"20,25,{2 * A.depth(picture(*SIZE))[25, 20]}")
    until(lambda: "by 1 anchors" in text(shown, "about"), WAIT)
    assert metres(readout(shown, 12, 30))[0] == pytest.approx(2 * before[0], abs=2e-3)
    typed(shown, "anchors", "")
    until(lambda: "anchors" not in text(shown, "about"), WAIT)


def test_files_come_back_as_the_same_metres(shown: Chrome, served: Any, tmp_path: Path) -> None:
    shown.find_element("id", "write").click()
    links = until(lambda: shown.find_elements("css selector", "#files a[href]"), WAIT)
    names = {}
    for link in links:
        url = link.get_attribute("href")
        assert url.startswith(served.url)
        path = tmp_path / url.rsplit("/", 1)[1]
        path.write_bytes(urllib.request.urlopen(url, timeout=10).read())
        names[path.name] = mde.read_depth(path)
    assert set(names) == {"photo_A_Known_depth.npz", "photo_B_Other_depth.npz"}
    found = names["photo_B_Other_depth.npz"]
    np.testing.assert_array_equal(found.values, B.depth(picture(*SIZE)))
    assert (found.unit, found.source, found.model) == ("m", "photo.png", "Other")


def test_the_point_cloud_needs_a_camera_and_is_upright(shown: Chrome) -> None:
    shown.find_element("id", "cloud-make").click()
    until(lambda: "field of view" in text(shown, "trouble"), WAIT)
    typed(shown, "fov", "60")
    shown.find_element("id", "cloud-make").click()
    until(lambda: text(shown, "trouble").strip() == "", WAIT)
    canvas = until(lambda: shown.find_elements("css selector", "#cloud canvas"), WAIT)[0]
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)

    def drawn() -> NDArray[np.float64]:
        with Image.open(io.BytesIO(canvas.screenshot_as_png)) as opened:
            return np.asarray(opened.convert("RGB")).astype(float)

    until(lambda: (drawn().min(-1) < 200).mean() > 0.05, WAIT)
    made = drawn()
    cloud = made.min(-1) < 200
    rows, columns = np.nonzero(cloud)
    red, blue = made[cloud][:, 0], made[cloud][:, 2]
    assert np.corrcoef(columns, red)[0, 1] > 0.5  # as in the picture: red grows to the right, blue downwards
    assert np.corrcoef(rows, blue)[0, 1] > 0.5
    ActionChains(shown, duration=50).click_and_hold(canvas).move_by_offset(80, 0).release().perform()
    until(lambda: np.abs(drawn() - made).mean() > 1, WAIT)


@pytest.mark.parametrize("kind", ["text", "empty", "many pixels", "cut off", "many bytes"])
def test_bad_files_get_one_clear_message_and_the_next_is_served(
    shown: Chrome, served: Any, photo: Path, kind: str
) -> None:
    path = photo.with_name("bad.png")
    says = {"text": "No picture, or damaged [bad.png]", "empty": "empty", "many pixels": "Too large: 1200x1200"}
    if kind == "many pixels":
        Image.new("RGB", (1200, 1200)).save(path)
    elif kind == "many bytes":
        path.write_bytes(np.random.default_rng(0).bytes(3_000_000))
    else:
        path.write_bytes({"text": b"hello", "empty": b"", "cut off": photo.read_bytes()[:-100]}[kind])
    drop(shown, path)
    words = says.get(kind, "exceed" if kind == "many bytes" else "truncated")
    until(lambda: words.lower() in shown.find_element("tag name", "body").text.lower(), WAIT)
    assert "Traceback" not in shown.page_source
    if kind == "many bytes":
        shown.find_element("css selector", ".toast-close").click()
        shown.refresh()  # Gradio's drop zone keeps the file that it could not send
        until(lambda: shown.find_elements("css selector", ".mde-view .empty"), WAIT)
    drop(shown, photo)
    until(lambda: "photo.png, 64 x 48 pixels" in text(shown, "about"), WAIT)
    assert text(shown, "trouble").strip() == ""
    assert [each for each in served.folder.rglob("*") if each.name in ("bad.png", "photo.png")] == []


def test_the_webcam_is_seen_live(browser: Chrome) -> None:
    tabs = browser.find_elements("xpath", "//button[normalize-space()='Webcam']")
    next(tab for tab in tabs if tab.is_displayed()).click()
    until(lambda: browser.find_elements("css selector", "#webcam [title='grant webcam access'] button"), WAIT)[
        0
    ].click()
    until(lambda: browser.execute_script("return document.querySelector('#webcam video')?.videoWidth"), WAIT)
    until(lambda: browser.find_elements("css selector", "#webcam button[aria-label='capture photo']"), WAIT)[0].click()
    first = until(lambda: re.search(r"webcam.*640 x 480.* \d+ ms", text(browser, "about")), WAIT)
    assert until(lambda: text(browser, "about") != first.string, WAIT)


def test_nothing_left_this_machine(browser: Chrome, served: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    sent = [each["request"]["url"] for each in requests if each["documentURL"].startswith(served.url)]
    assert len(sent) > 10
    assert [url for url in sent if not url.startswith((f"{served.url}/", "data:", "blob:"))] == []
    script = "fetch('http://127.0.0.1:9/').then(() => arguments[0]('sent'), (e) => arguments[0](String(e)))"
    assert browser.execute_async_script(script) != "sent"
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))
