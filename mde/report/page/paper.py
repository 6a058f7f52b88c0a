"""The comparison figure of a paper, from the images that runs kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mde.errors import ConfigError
from mde.report.figures import ComparedImage, comparison_figure
from mde.report.page.content import Content

__all__ = ["write_figure"]

_WIDTH = 640
_DPI = 300


def write_figure(path: str | Path, content: Content, ids: Sequence[str], *, title: str = "") -> None:
    """Write RGB, truth and each method's prediction of some images on one scale of colours; folders are made.

    Args:
        path: ends in ``.png`` or ``.pdf``.
        content: of `mde.report.page.gather`.
        ids: of the rows.
        title: above the figure.

    Raises:
        ConfigError: an image was not kept, or there is none.
        DataFormatError: a sample is damaged.
    """
    content.require_kept(ids)
    found = [content.shown(sample_id, _WIDTH) for sample_id in ids]
    rows = [
        ComparedImage(s.id, s.truth.image, s.truth.depth, {name: sample.pred for name, sample in s.samples.items()})
        for s in found
        if s is not None
    ]
    if not rows:
        hint = "test again: `mde test` keeps some images of the set"
        raise ConfigError("no images to draw: these runs kept none", where=path, next_action=hint)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure = comparison_figure(rows, [method.name for method in content.methods], title)
    figure.savefig(target, dpi=_DPI)
