"""Monocular depth estimation in PyTorch Lightning: from one RGB image to a depth map in metres.

Public names are loaded on first use, so that ``import mde`` costs milliseconds and not the seconds of torch.

>>> import mde
>>> mde.get_protocol("nyu_eigen").max_depth
10.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

_HOME = {
    "Alignment": "mde.alignment",
    "Ambiguity": "mde.types",
    "DepthResult": "mde.inference.result",
    "EvalProtocol": "mde.protocol",
    "Prediction": "mde.types",
    "Predictor": "mde.inference.predictor",
    "align": "mde.alignment",
    "get_protocol": "mde.protocol",
    "load": "mde.models.checkpoint",
    "read_depth": "mde.inference.result",
}
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


def __getattr__(name: str) -> Any:
    """Load a public name from its home module (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'mde' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
