"""Make the pictures of README and documentation, without hands: ``python -m tools.pictures``.

Without ``--rooms`` and ``--streets`` it trains the two networks that it shows (quickstart, and the same on streets;
some minutes each on one core). Needs the extra ``demo``, selenium, chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import io
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from tools.browser import open_browser, until

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from selenium.webdriver import Chrome

    from mde.inference.predictor import Predictor

__all__ = ["main", "save_small"]

LARGEST = 150_000
"""Bytes of a picture."""

_COLOURS = (256, 128, 64)
_WORLDS = {"rooms": (), "street": ("--data.world", "street", "--model.codec.max_depth", "80", "--run.name", "street")}
_WAIT = 120  # seconds


def main(words: Sequence[str] | None = None) -> int:
    """Make all pictures; 0 when they are there."""
    options = _parser().parse_args(words)
    from mde.inference.predictor import Predictor

    options.out.mkdir(parents=True, exist_ok=True)
    runs = {"rooms": options.rooms, "street": options.streets}
    runs = {world: run or _train(world, options.config) for world, run in runs.items()}
    networks = {world: Predictor(run) for world, run in runs.items()}
    size = (options.height, options.height * 4 // 3)
    _save(_worlds_figure(networks, size, options.rows), options.out / "worlds.png")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        browser = open_browser(scratch / "profile", (1280, 1000), ("--enable-unsafe-swiftshader",))
        try:
            _demo(browser, networks["rooms"], *_photo(size, scratch), options.out)
            _report(browser, runs["rooms"], scratch, options.out / "report.png")
        finally:
            browser.quit()
    for path in sorted(options.out.glob("*.png")):
        print(f"{path}  {path.stat().st_size / 1000:.0f} kB")
    return 0


def save_small(picture: Image.Image, path: Path, most: int = LARGEST) -> None:
    """Write a PNG with a palette, of as many colours as fit into the bytes.

    Raises:
        ValueError: not even the fewest fit.
    """
    for colours in _COLOURS:
        buffer = io.BytesIO()
        # rare colours, such as the ends of a colour bar, stay what they are; dithering takes twice the bytes
        few = picture.convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=3)
        few.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= most:
            path.write_bytes(buffer.getvalue())
            return
    raise ValueError(f"{path} takes {buffer.tell()} bytes: make the picture smaller")


def _train(world: str, config: str) -> Path:
    """The folder of a new run."""
    from mde.cli import main as mde

    folder = Path("runs", "street" if world == "street" else Path(config).stem)
    before = set(folder.glob("*"))
    if mde(["fit", "--config", config, *_WORLDS[world]]) != 0:
        raise RuntimeError(f"training on {world} failed, as it says above")
    return max(set(folder.glob("*")) - before)


def _worlds_figure(networks: dict[str, Predictor], size: tuple[int, int], rows: int) -> Figure:
    """Rooms and streets that no network saw: picture, truth, prediction, error."""
    from mde.report.figures import depth_figure

    shown: dict[str, list[torch.Tensor]] = {name: [] for name in ("image", "depth", "valid", "pred")}
    names = []
    for world, network in networks.items():
        for item in _scenes(world, size, rows):
            far = network.network.depth_range[1] if network.network.depth_range else float("inf")
            shown["image"].append(item["image"])
            shown["depth"].append(item["depth"])
            shown["valid"].append(item["valid"] & (item["depth"] <= far))  # as a test counts them
            shown["pred"].append(torch.from_numpy(network(item["image"]).values)[None])
            names.append(f"{world}, {network.model}")
    return depth_figure(*(torch.stack(shown[name]) for name in ("image", "depth", "valid", "pred")), names)


def _scenes(world: str, size: tuple[int, int], count: int) -> list[Any]:
    from mde.data import ProceduralDataModule

    data = ProceduralDataModule(world=world, test_scenes=count, image_size=size)
    data.setup("test")
    scenes = data.dataset("test")
    return [scenes[index] for index in range(count)]


def _photo(size: tuple[int, int], folder: Path) -> tuple[Path, float]:
    """A room as a file, and its horizontal field of view in degrees."""
    item = _scenes("rooms", size, 2)[1]
    path = folder / "room.png"
    Image.fromarray((item["image"].permute(1, 2, 0).numpy() * 255).round().astype("uint8")).save(path)
    return path, math.degrees(2 * math.atan(size[1] / 2 / item["intrinsics"][0, 0].item()))


def _demo(browser: Chrome, network: Predictor, photo: Path, fov: float, out: Path) -> None:
    """The page with a picture, the pointer on it, and its point cloud."""
    from selenium.webdriver import Keys
    from selenium.webdriver.common.action_chains import ActionChains

    from mde.demo import serve

    with serve([network]) as served:
        browser.get(served.url)
        upload = until(lambda: browser.find_elements("css selector", "#upload input[type=file]"), _WAIT)[0]
        upload.send_keys(str(photo))
        frame = until(lambda: browser.find_elements("css selector", ".mde-view .frame"), _WAIT)[0]
        browser.find_element("css selector", "#fov input, #fov textarea").send_keys(f"{fov:.1f}", Keys.TAB)
        browser.find_element("id", "cloud-make").click()
        canvas = until(lambda: browser.find_elements("css selector", "#cloud canvas"), _WAIT)[0]
        until(lambda: len(_shot(canvas).resize((40, 30)).getcolors(1200) or ()) > 50, _WAIT)  # it is drawn
        ActionChains(browser).click_and_hold(canvas).move_by_offset(-12, 6).release().perform()
        save_small(_without_margins(_shot(canvas)), out / "cloud.png")
        browser.execute_script("window.scrollTo(0, 0)")
        ActionChains(browser).move_to_element_with_offset(frame, frame.size["width"] // 4, 20).perform()
        until(lambda: " m" in browser.find_element("css selector", ".mde-view .readout").text, _WAIT)
        save_small(_page(browser), out / "demo.png")


def _report(browser: Chrome, run: Path, folder: Path, path: Path) -> None:
    from mde.report.page import gather, write_report

    write_report(folder / "report.html", gather([run]))
    browser.get((folder / "report.html").as_uri())
    until(lambda: browser.execute_script("return document.body.dataset.ready"), _WAIT)
    heading = browser.find_element("xpath", "//h2[. = 'Images']")
    browser.execute_script("arguments[0].scrollIntoView()", heading)
    save_small(_page(browser), path)


def _page(browser: Chrome) -> Image.Image:
    return Image.open(io.BytesIO(browser.get_screenshot_as_png()))


def _shot(element: Any) -> Image.Image:
    return Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")


def _without_margins(picture: Image.Image, kept: int = 20) -> Image.Image:
    """Cut to what is not white, inside of the frame and below the label of the viewer."""
    width, height = picture.size
    frame, label = 8, 40  # pixels
    inner = picture.crop((frame, label, width - frame, height - frame))
    box = inner.convert("L").point(lambda level: 255 * (level < 250)).getbbox() or (0, 0, *inner.size)
    left, top, right, bottom = (max(0, box[0] - kept), max(0, box[1] - kept), box[2] + kept, box[3] + kept)
    return inner.crop((left, top, min(inner.width, right), min(inner.height, bottom)))


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90)
    save_small(Image.open(buffer), path)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    made.add_argument("--out", type=Path, default=Path("docs/pictures"), help="default: docs/pictures")
    made.add_argument("--rooms", type=Path, metavar="RUN", help="folder of a run trained and tested on rooms")
    made.add_argument("--streets", type=Path, metavar="RUN", help="the same on streets")
    made.add_argument("--config", default="quickstart", help="what is trained where no run is given")
    made.add_argument("--height", type=int, default=480, help="of the rendered pictures, pixels")
    made.add_argument("--rows", type=int, default=2, help="pictures of each world")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
