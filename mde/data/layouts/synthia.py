"""The layout of SYNTHIA-RAND-CITYSCAPES."""

from __future__ import annotations

from pathlib import Path

from mde.data.layouts import Layout

__all__ = ["LAYOUTS"]


def _is_rand_cityscapes(root: Path) -> bool:
    """RGB and Depth in capitals, here or in RAND_CITYSCAPES, with seven digits to a frame."""
    for folder in (root, root / "RAND_CITYSCAPES"):
        if (folder / "RGB").is_dir() and (folder / "Depth").is_dir():
            first = next((path for path in (folder / "RGB").iterdir() if path.suffix == ".png"), None)
            return first is not None and len(first.stem) == 7 and first.stem.isdigit()
    return False


LAYOUTS = (
    Layout(
        name="synthia/rand_cityscapes",
        summary="RAND_CITYSCAPES with RGB/0000000.png, Depth/0000000.png (16-bit colour, cm), GT/LABELS/0000000.png",
        data_module="mde.data.synthia.SYNTHIADataModule",
        matches=_is_rand_cityscapes,
        writer="mde.data.writers.synthia:write_rand_cityscapes",
        world="street",
        configs=("synthia/densedepth",),
    ),
)
