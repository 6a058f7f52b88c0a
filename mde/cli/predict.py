"""``mde predict``: depth of pictures, videos and a camera by a trained network, or a test set's by the Trainer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mde.cli.environment import choose, prepare_process, this_machine
from mde.cli.predict_clips import camera_number, counted, formats_for, open_camera, predict_clips, watch_camera
from mde.cli.predict_options import make_parser
from mde.console import animated, console
from mde.errors import ConfigError

if TYPE_CHECKING:
    from mde.inference.inputs import Source
    from mde.inference.pipeline import Colours, Finish, Summary
    from mde.inference.predictor import Predictor
    from mde.inference.record import RunRecord
    from mde.inference.result import DepthResult

__all__ = ["make_parser", "run"]

_OF_TRAINER = ("ckpt_path", "config", "data", "model", "trainer", "run", "print_config", "seed_everything")
_NEWS = 5  # lines about single pictures; the record has all


def run(words: Sequence[str]) -> int:
    """Predict; 0 when all pictures are done, 1 when some were skipped, 2 for wrong words."""
    if _is_for_trainer(words):
        prepare_process()
        from mde.cli.train import run_trainer_command

        return run_trainer_command(["predict", *words])
    options = make_parser().parse_intermixed_args(list(words))
    prepare_process()
    return _predict(options)


def _is_for_trainer(words: Sequence[str]) -> bool:
    """No INPUT comes first, and an option is one of LightningCLI's."""
    names = [word.lstrip("-").partition("=")[0].partition(".")[0] for word in words if word.startswith("--")]
    return bool(words) and words[0].startswith("-") and any(name in _OF_TRAINER for name in names)


def _predict(options: argparse.Namespace) -> int:
    from mde.inference.inputs import sources
    from mde.inference.outputs import require
    from mde.inference.predictor import Predictor
    from mde.types import Ambiguity

    def found() -> Iterator[Source]:
        return sources(options.input, options.recursive, options.out, options.max_megapixels)

    live, formats = camera_number(options), formats_for(_given(options))
    require(formats.pictures, Ambiguity.METRIC)
    colours, camera, finish = _colours(options), _camera(options), _finish(options)
    # names only; a word that is wrong shows before any work
    total, clips = (0, []) if live is not None else counted(found(), formats)
    eye = None if live is None else open_camera(live)
    _require_writable(options.out)
    predictor = Predictor(
        options.checkpoint, options.device, options.precision, options.flip, options.size, options.tiles,
        options.batch, _is_unsure(options), camera,
    )  # fmt: skip
    require(formats.pictures, Ambiguity.METRIC if _scales(options) else predictor.ambiguity)
    print(_describe(predictor))
    threads, skipped = _share_cores(predictor), 0
    if eye is not None:
        return watch_camera(options, eye, predictor, formats.pictures, colours, finish)
    if total:
        pictures = (source for source in found() if not source.video)
        skipped += _pictures(options, predictor, pictures, total, colours, finish, threads)
    if clips:
        record = _record(options, predictor, formats.clips, fresh=options.overwrite and not total)
        try:
            skipped += predict_clips(options, predictor, clips, record, colours, finish, threads, _display)
        finally:
            record.close()
    written = [*(formats.pictures if total else ()), *(formats.clips if clips else ())]
    print(f"Written: {options.out} ({', '.join(dict.fromkeys(written))})")
    return 1 if skipped else 0


def _pictures(
    options: argparse.Namespace,
    predictor: Predictor,
    pictures: Iterator[Source],
    total: int,
    colours: Colours,
    finish: Finish | None,
    threads: int,
) -> int:
    """Predict them; how many were skipped."""
    from mde.inference.pipeline import predict_all

    record = _record(options, predictor, formats_for(_given(options)).pictures, options.overwrite)
    with _display(total) as show:
        summary = predict_all(predictor, pictures, record, colours, finish, threads, show)
    _report(options, summary)
    return summary.skipped


def _record(options: argparse.Namespace, predictor: Predictor, formats: Sequence[str], fresh: bool) -> RunRecord:
    from mde.inference.record import RunRecord

    record = RunRecord(options.out, _settings(options, predictor), formats, fresh)
    if record.other:
        print(f"{options.out} has outputs of other settings: they are made again")
    return record


def _describe(predictor: Predictor) -> str:
    network = predictor.network
    ends = "" if network.depth_range is None else ", {:g} to {:g} m".format(*network.depth_range)
    text = f"{network.name}: {network.ambiguity.value} ({network.ambiguity.unit}{ends})"
    if network.works_at is None:
        return text
    return f"{text}; works at {network.works_at[0]}x{network.works_at[1]}, to which pictures are stretched"


def _given(options: argparse.Namespace) -> list[str]:
    """Formats that were asked for."""
    return [name.strip() for text in options.format or () for name in text.split(",") if name.strip()]


def _is_unsure(options: argparse.Namespace) -> bool:
    """Standard deviations are asked for, in one way or another."""
    return options.uncertainty or "std" in _given(options) or options.min_confidence is not None


def _scales(options: argparse.Namespace) -> bool:
    return any(each is not None for each in (options.anchor, options.camera_height, options.sparse_depth))


def _colours(options: argparse.Namespace) -> Colours:
    from mde.inference.pipeline import Colours

    ends = None if options.color_range is None else tuple(options.color_range)
    percentiles = tuple(options.color_percentiles)
    return Colours(ends, options.color_from, percentiles, options.color_kind, options.colors)


def _camera(options: argparse.Namespace) -> Any:
    from mde.inference.camera import Camera

    focal = None if options.focal is None else tuple(options.focal)
    return Camera(options.intrinsics, options.intrinsics_size, options.fov, focal)


def _finish(options: argparse.Namespace) -> Finish | None:
    """What happens to a result between network and file: a scale, then a mask."""
    from mde.inference.outputs import masked

    scale, least = _scale(options), options.min_confidence
    if scale is None and least is None:
        return None

    def finish(result: DepthResult, source: Source) -> tuple[DepthResult, str]:
        result, about = (result, "") if scale is None else scale(result, source)
        return (result if least is None else masked(result, least)), about

    return finish


def _scale(options: argparse.Namespace) -> Finish | None:
    from mde.inference import anchors
    from mde.inference.measured import measured_depth

    ways: dict[str, Callable[[DepthResult, Source], anchors.Scaled]] = {
        "anchor": lambda result, _: anchors.scale_by_points(result, options.anchor, options.anchor_fit),
        "camera_height": lambda result, _: anchors.scale_by_height(result, options.camera_height),
        "sparse_depth": lambda result, source: anchors.scale_by_depth(
            result, *measured_depth(options.sparse_depth, source.name, options.sparse_encoding), options.anchor_fit
        ),
    }
    way = next((make for name, make in ways.items() if getattr(options, name) is not None), None)
    if way is None:
        return None
    scaled = way

    def finish(result: DepthResult, source: Source) -> tuple[DepthResult, str]:
        made = scaled(result, source)
        return made.result, made.about

    return finish


def _settings(options: argparse.Namespace, predictor: Predictor) -> dict[str, Any]:
    """All that the outputs depend on, beside the pictures."""
    elsewhere = {"input", "checkpoint", "out", "recursive", "overwrite", "device", "batch", "max_megapixels", "format"}
    own = {name: value for name, value in vars(options).items() if name not in elsewhere}
    sparse = None if options.sparse_depth is None else str(options.sparse_depth)
    network = {"model": predictor.model, "weights": predictor.network.weights, "camera": asdict(predictor.camera)}
    return {**own, "sparse_depth": sparse, "formats": _given(options), **network}


def _share_cores(predictor: Predictor) -> int:
    """Threads for reading, and as many for writing; the rest of the cores is the network's."""
    import torch

    accelerator = predictor.network.device.startswith(("cuda", "mps"))
    shared = choose(this_machine(accelerator=accelerator), in_memory=False)
    torch.set_num_threads(shared.threads)
    return max(1, shared.workers)


def _require_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder of the outputs cannot be made ({error.strerror})"
        raise ConfigError(what, where=out, next_action="give another one: -o DIR") from error


@contextmanager
def _display(total: int | None) -> Iterator[Callable[[Summary, str], None]]:
    """A line that shows how far it is, on a terminal; news of single pictures in any case."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    errors, told = console(stderr=True), 0
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not animated(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total, speed="")

        def show(summary: Summary, news: str) -> None:
            nonlocal told
            progress.update(task, completed=summary.done + summary.kept + summary.skipped, speed=summary.speed())
            skipped = news.startswith("skipped: ")
            if skipped or (news and told < _NEWS):
                told += not skipped
                progress.console.print(Text(f"mde: {news}"), soft_wrap=True)

        yield show


def _report(options: argparse.Namespace, summary: Summary) -> None:
    from mde.inference.record import RECORD

    parts = [f"{summary.done} pictures in {summary.elapsed:.1f} s, {summary.speed()}"]
    parts += [f"{summary.kept} were there already"] if summary.kept else []
    print("; ".join(parts))
    if summary.skipped:
        print(f"mde: {summary.skipped} skipped, listed above and in {options.out / RECORD}", file=sys.stderr)
