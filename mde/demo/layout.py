"""The layout of the page in Gradio, and which event calls what of `Page`. Needs the extra ``demo``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from mde.demo.choices import KINDS
from mde.demo.page import CLOUDS, Fields, Page, problem
from mde.errors import MdeError
from mde.inference.outputs import COLOURS, FORMATS

__all__ = ["KEPT", "make_blocks"]

KEPT = (30, 600)
"""Seconds: how often files are looked through, and after which they are deleted."""

_WAITING = 8  # requests in the queue; more are refused
_FRAME = 0.25  # seconds between frames of the webcam
_TURN = 600  # seconds of one turn of the webcam
_CAMERA = {"video": {"width": {"ideal": 640}, "height": {"ideal": 480}}}
_HERE = Path(__file__).parent
_PRIVATE = {"api_visibility": "private"}
_NETWORK = {**_PRIVATE, "concurrency_id": "network", "concurrency_limit": 1}  # one prediction at a time

Do = Callable[..., Any]


def make_blocks(page: Page, kept: tuple[int, int] = KEPT) -> gr.Blocks:
    """The page; nothing is served yet.

    Args:
        page: what it does.
        kept: seconds, see `KEPT`.
    """
    with gr.Blocks(title="mde demo", analytics_enabled=False, delete_cache=kept) as made:
        with gr.Row():
            with gr.Column(scale=3, min_width=480):
                gr.HTML(f"<h1>mde demo</h1><p>{_networks(page)}</p>", elem_classes="about")
                about = gr.HTML(elem_classes="about", elem_id="about")
                trouble = gr.HTML(elem_classes="about", elem_id="trouble")
                viewer = _viewer()
                cloud_words, cloud_button, cloud = _cloud(page)
            with gr.Column(scale=1, min_width=320):
                upload, webcam = _inputs()
                fields = _fields()
                formats, write, files = _downloads()
        shown = [viewer, about, cloud, files, trouble]
        upload.upload(_on_upload(page), [upload, *fields], [upload, *shown], show_progress_on=viewer, **_NETWORK)
        turn = {"stream_every": _FRAME, "time_limit": _TURN, "show_progress": "hidden"}
        webcam.stream(_on_frame(page), [webcam, *fields], shown, **turn, **_NETWORK)
        changed = [field.change for field in fields[:2]] + [e for f in fields[2:] for e in (f.submit, f.blur)]
        gr.on(changed, _on_change(page), fields, [viewer, about, trouble], show_progress="hidden", **_PRIVATE)
        viewer.select(_on_pick, fields[-1], fields[-1], show_progress="hidden", **_PRIVATE)
        cloud_button.click(_on_cloud(page), [*cloud_words, *fields], [cloud, trouble], **_PRIVATE)
        write.click(_on_write(page), [formats, *fields], [files, trouble], **_PRIVATE)
        made.unload(_on_close(page))
    made.queue(max_size=_WAITING, default_concurrency_limit=1, api_open=False)
    return made


def _networks(page: Page) -> str:
    """What is served, in a line of HTML."""
    parts = []
    for network in page.networks:
        ends = network.predictor.network.depth_range
        unit = "metres" if network.predictor.ambiguity.unit == "m" else network.predictor.ambiguity.unit
        parts.append(
            f"<b>{escape(network.title)}</b> ({unit}{'' if ends is None else ', {:g} to {:g} m'.format(*ends)})"
        )
    return " and ".join(parts)


def _viewer() -> Any:
    script, style = ((_HERE / name).read_text(encoding="utf-8") for name in ("viewer.js", "viewer.css"))
    return gr.HTML(
        None, html_template='<div class="mde-view"></div>', css_template=style, js_on_load=script, elem_id="viewer"
    )


def _cloud(page: Page) -> tuple[list[Any], Any, Any]:
    names = [network.title for network in page.networks]
    with gr.Row(equal_height=True):
        title = gr.Dropdown(names, value=names[0], label="point cloud of", visible=len(names) > 1, elem_id="cloud-of")
        kind = gr.Radio(list(CLOUDS), value="surface", label="point cloud as", elem_id="cloud-kind")
        button = gr.Button("Show point cloud", elem_id="cloud-make")
    shown = gr.Model3D(
        label="Point cloud: drag to turn it", display_mode="solid", height=420, clear_color=(1, 1, 1, 1),
        interactive=False, elem_id="cloud",
    )  # fmt: skip
    return [title, kind], button, shown


def _inputs() -> tuple[Any, Any]:
    with gr.Tab("Picture"):
        upload = gr.File(label="Picture (it is not kept)", height=170, elem_id="upload")
    with gr.Tab("Webcam"):
        webcam = gr.Image(
            sources=["webcam"], type="filepath", image_mode=None, streaming=True, label="Webcam", height=220,
            webcam_options=gr.WebcamOptions(mirror=False, constraints=_CAMERA), elem_id="webcam",
        )  # fmt: skip
    return upload, webcam


def _fields() -> list[Any]:
    """In the order of `Fields`."""
    with gr.Accordion("Colours"):
        with gr.Row():
            name = gr.Dropdown(list(COLOURS), value=COLOURS[0], label="colour map", min_width=100, elem_id="colours")
            kind = gr.Dropdown(list(KINDS), value="linear", label="spread", min_width=100, elem_id="kind")
        with gr.Row():
            near = gr.Textbox(label="near end", placeholder="auto", min_width=100, elem_id="near")
            far = gr.Textbox(label="far end", placeholder="auto", min_width=100, elem_id="far")
    with gr.Accordion("Camera, for point clouds"):
        fov = gr.Textbox(label="horizontal field of view, degrees", placeholder="as EXIF says", elem_id="fov")
        with gr.Row():
            focal = gr.Textbox(label="or focal length, mm", placeholder="EXIF", min_width=100)
            sensor = gr.Textbox(label="sensor width, mm", placeholder="EXIF", min_width=100)
    with gr.Accordion("Anchors: points of known depth", open=False):
        anchors = gr.Textbox(
            label="x,y,metres, one a line: click on the picture, type the metres", placeholder="320,240,2.5", lines=3,
            elem_id="anchors",
        )  # fmt: skip
    return [name, kind, near, far, fov, focal, sensor, anchors]


def _downloads() -> tuple[Any, Any, Any]:
    names = [(f"{name}: {text}", name) for name, text in FORMATS.items() if name != "std"]
    with gr.Accordion("Download"):
        formats = gr.Dropdown(names, value=["npz"], multiselect=True, label="formats", elem_id="formats")
        write = gr.Button("Write files", elem_id="write")
        files = gr.File(
            label="Files (deleted after some minutes)",
            file_count="multiple",
            interactive=False,
            height=120,
            elem_id="files",
        )
    return formats, write, files


def _typed(fields: Sequence[str | None]) -> Fields:
    """The fields as they are; Gradio says None of one that was never touched."""
    return Fields(*(field or "" for field in fields))


def _tried(do: Do, count: int) -> list[Any]:
    """What `do` gives for `count` outputs, and no trouble; or no change of them, and what is wrong."""
    try:
        return [*do(), ""]
    except MdeError as error:
        return [*[gr.skip()] * count, problem(error)]


def _on_upload(page: Page, name: str | None = None) -> Do:
    def do(request: gr.Request, path: str | None, *fields: Any) -> list[Any]:
        if path is None:
            return [gr.skip()] * 6
        key = str(request.session_hash)
        viewer, about, trouble = _tried(lambda: page.uploaded(key, path, _typed(fields), name), 2)
        if trouble:  # of the picture before nothing is left
            viewer, about = None, ""
        return [None, viewer, about, None, None, trouble]

    return do


def _on_frame(page: Page) -> Do:
    upload = _on_upload(page, "webcam")

    def do(request: gr.Request, path: str | None, *fields: Any) -> list[Any]:
        return list(upload(request, path, *fields)[1:])

    return do


def _on_change(page: Page) -> Do:
    def do(request: gr.Request, *fields: Any) -> Sequence[Any]:
        key = str(request.session_hash)
        if page.sessions.get(key) is None:
            return [gr.skip()] * 3
        return _tried(lambda: page.again(key, _typed(fields)), 2)

    return do


def _on_pick(anchors: str, event: gr.EventData) -> str:
    """One line more, whose metres are still to be typed."""
    lines = [line for line in (anchors or "").splitlines() if line.strip() and not line.strip().endswith(",")]
    return "\n".join([*lines, f"{event.x},{event.y},"])


def _on_cloud(page: Page) -> Do:
    def do(request: gr.Request, title: str, kind: str, *fields: Any) -> Sequence[Any]:
        key = str(request.session_hash)
        return _tried(lambda: [str(page.cloud(key, _typed(fields), title, kind))], 1)

    return do


def _on_write(page: Page) -> Do:
    def do(request: gr.Request, formats: list[str], *fields: Any) -> Sequence[Any]:
        key = str(request.session_hash)
        return _tried(lambda: [[str(path) for path in page.files(key, _typed(fields), formats)]], 1)

    return do


def _on_close(page: Page) -> Do:
    def do(request: gr.Request) -> None:
        page.sessions.drop(str(request.session_hash))

    return do
