"""Small videos to read, made frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from torch import Tensor

from mde.types import Ambiguity, Prediction

SIZE = (48, 64)
RATE = 10


class Grey:
    """Says the brightness of a picture, divided by 25.5, in metres, 0.1 at least."""

    def __init__(self, ambiguity: Ambiguity = Ambiguity.METRIC) -> None:
        self.ambiguity, self.calls = ambiguity, 0

    class info:
        model, depth_range, image_size, weights = "grey", (0.1, 10.0), None, "abc"

    def predict(self, image: Tensor, flip: bool = False) -> Prediction:
        self.calls += len(image)
        return Prediction((image.float().mean(1, keepdim=True) / 25.5).clamp(min=0.1), self.ambiguity)


def ramps(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Grey frames, brighter one after another, dark at the upper left."""
    frames = []
    for index in range(count):
        made = np.full((*size, 3), 60 + (150 * index) // count, np.uint8)
        made[: size[0] // 4, : size[1] // 4] = 20
        frames.append(made)
    return frames


def make_clip(
    path: Path,
    frames: Sequence[np.ndarray[Any, np.dtype[np.uint8]]],
    pts: Sequence[int] | None = None,
    base: Fraction = Fraction(1, RATE),
    sound: str | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    **context: int,
) -> Path:
    """A video of these frames; `sound` names the codec of a tone that is as long."""
    pts = range(len(frames)) if pts is None else pts
    with av.open(str(path), "w", options=options or {}) as out:
        stream: Any = out.add_stream(codec, rate=RATE, options={"crf": "1"} if codec == "libx264" else {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = pix_fmt, base
        stream.codec_context.gop_size = 4
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        tone: Any = None
        if sound:
            tone = out.add_stream(sound, rate=8000)
            tone.layout, tone.bit_rate = "mono", 32000
            tone.format = tone.codec_context.codec.audio_formats[0].name
        for frame, time in zip(frames, pts, strict=True):
            made = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if context.get("colorspace") == 1:
                made = made.reformat(format=pix_fmt, dst_colorspace=1)
            made.pts, made.time_base = time, base
            out.mux(stream.encode(made))
        if sound:
            _add_tone(out, tone, float((pts[-1] + 1) * base))
        out.mux(stream.encode())
    return path


def _add_tone(out: Any, stream: Any, seconds: float) -> None:
    wave = (8000 * np.sin(np.arange(int(8000 * seconds)) / 3)).astype(np.int16)
    resampler = av.AudioResampler(stream.format.name, "mono", 8000)
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, start
        for each in resampler.resample(frame):
            out.mux(stream.encode(each))
    out.mux(stream.encode())


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Time and content of the packets of a stream, "video" or "audio"."""
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


def decoded(path: Path) -> list[tuple[float, np.ndarray[Any, np.dtype[np.uint8]]]]:
    """Time and picture of all frames, as PyAV says it."""
    with av.open(str(path)) as container:
        return [(float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]


def turned(path: Path, matrix: Sequence[int]) -> Path:
    """The same MP4 with a display matrix (a, b, c, d) written into its track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version 0: times, number, length, layer, volume
    numbers = np.frombuffer(bytes(data[at : at + 36]), ">i4").copy()
    numbers[[0, 1, 3, 4]] = [65536 * each for each in matrix]
    data[at : at + 36] = numbers.astype(">i4").tobytes()
    made = path.with_name(f"turned_{path.name}")
    made.write_bytes(bytes(data))
    return made


__all__ = ["RATE", "SIZE", "Grey", "decoded", "make_clip", "packets", "ramps", "turned"]
