"""Maps between metres and the space in which a network works.

The labels of a batch are always metres; the codec belongs to the method. Every codec works on a depth range
[min_depth, max_depth] in metres, clamps to it on both ways, and computes in float32 even under autocast.
"""

from mde.codecs.base import DepthCodec
from mde.codecs.binned import DECODERS, Binned, Discretized
from mde.codecs.continuous import Disparity, Linear, Log, LogMetres, Metres, Reciprocal
from mde.codecs.ordinal import Ordinal

__all__ = [
    "DECODERS",
    "Binned",
    "DepthCodec",
    "Discretized",
    "Disparity",
    "Linear",
    "Log",
    "LogMetres",
    "Metres",
    "Ordinal",
    "Reciprocal",
]
