"""Every format in which a result can be written, its colours, and its point cloud."""

from mde.inference.outputs.clouds import Cloud
from mde.inference.outputs.colour import COLOURS, ColourScale
from mde.inference.outputs.files import FORMATS, paths, require, write, write_whole
from mde.inference.result import masked, read_depth

__all__ = [
    "COLOURS",
    "FORMATS",
    "Cloud",
    "ColourScale",
    "masked",
    "paths",
    "read_depth",
    "require",
    "write",
    "write_whole",
]
