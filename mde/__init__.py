"""Monocular depth estimation in PyTorch Lightning: from one RGB image to a depth map in metres.

Public names are loaded on first use, so that ``import mde`` costs milliseconds and not the seconds of torch.

>>> import mde
>>> mde.get_protocol("nyu_eigen").max_depth
10.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mde.lazy import lazily

if TYPE_CHECKING:
    from mde.alignment import Alignment as Alignment
    from mde.alignment import align as align
    from mde.inference.predictor import Predictor as Predictor
    from mde.inference.result import DepthResult as DepthResult
    from mde.inference.result import read_depth as read_depth
    from mde.models.checkpoint import load as load
    from mde.protocol import EvalProtocol as EvalProtocol
    from mde.protocol import get_protocol as get_protocol
    from mde.types import Ambiguity as Ambiguity
    from mde.types import Prediction as Prediction

__version__ = "0.1.0"

__all__ = [
    "Alignment",
    "Ambiguity",
    "DepthResult",
    "EvalProtocol",
    "Prediction",
    "Predictor",
    "__version__",
    "align",
    "get_protocol",
    "load",
    "read_depth",
]

_NAMES = {
    "alignment": ("Alignment", "align"),
    "inference.predictor": ("Predictor",),
    "inference.result": ("DepthResult", "read_depth"),
    "models.checkpoint": ("load",),
    "protocol": ("EvalProtocol", "get_protocol"),
    "types": ("Ambiguity", "Prediction"),
}

__getattr__, __dir__ = lazily(__name__, _NAMES)
