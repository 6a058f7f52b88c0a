"""Videos: their frames (`Clip`), a whole one predicted (`predict_clip`), the camera at work (`watch`).

Needs the extra ``mde[video]``, but for `watch`.
"""

from mde.inference.video.clip import ClipRun, predict_clip
from mde.inference.video.finishing import VIDEO_FORMATS, clip_outputs
from mde.inference.video.live import Eye, Shown, Window, watch
from mde.inference.video.reading import Clip, ClipFrame
from mde.inference.video.writing import ClipWriter

__all__ = [
    "VIDEO_FORMATS",
    "Clip",
    "ClipFrame",
    "ClipRun",
    "ClipWriter",
    "Eye",
    "Shown",
    "Window",
    "clip_outputs",
    "predict_clip",
    "watch",
]
