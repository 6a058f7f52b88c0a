"""Evaluation protocols: everything that decides a number besides the prediction itself, in one frozen object.

The same weights score a delta1 of 0.93 or 0.84 by protocol alone. A protocol therefore has a fingerprint that every
result carries, and two results of different fingerprints are not compared.

The path is always the same: average the predictions of the mirrored and the rescaled image -> resize to the ground
truth -> align -> clamp to [min_depth, max_depth] -> keep pixels that are valid, inside the range, and inside the crop
-> errors -> average. The settings of `EvalProtocol` say how each step is done, `PROTOCOLS` what others have chosen.
"""

from __future__ import annotations

from mde.protocol.crops import CROPS, Window
from mde.protocol.named import PROTOCOLS, get_protocol
from mde.protocol.settings import EvalProtocol, HasProtocol, Prepared, require_same
from mde.protocol.spaces import RESIZES, resize, turned

__all__ = [
    "CROPS",
    "PROTOCOLS",
    "RESIZES",
    "EvalProtocol",
    "HasProtocol",
    "Prepared",
    "Window",
    "get_protocol",
    "require_same",
    "resize",
    "turned",
]
