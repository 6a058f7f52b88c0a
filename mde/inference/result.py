"""What a network says of one picture: `DepthResult`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mde.data.noted import NOTED_SUFFIXES, NotedMap, read_noted
from mde.errors import ConfigError, DataFormatError
from mde.types import Ambiguity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mde.inference.outputs import Cloud, ColourScale

__all__ = ["DepthResult", "masked", "read_depth"]


@dataclass(frozen=True, eq=False)
class DepthResult:
    """A predicted map of one picture, with all that is needed to use it. In a notebook it shows itself.

    Attributes:
        values: float32 (H,W), in `unit`: metres for METRIC. NaN where there is no depth.
        ambiguity: what `values` are.
        image: uint8 (H,W,3), RGB; None where only the map was read back from a file.
        intrinsics: float64 (3,3), pixels of `values`; None where the camera is unknown.
        depth_range: metres that the network can say, (min, max); None where it has no bounds.
        model: name of the network.
        source: name of the picture.
        std: float32 (H,W), standard deviation of the depth, metres; None where the network does not say it.

    Raises:
        ConfigError: something else than arrays, or arrays whose types or shapes do not fit together.
    """

    values: NDArray[np.float32]
    ambiguity: Ambiguity
    image: NDArray[np.uint8] | None = None
    intrinsics: NDArray[np.float64] | None = None
    depth_range: tuple[float, float] | None = None
    model: str = ""
    source: str = ""
    std: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        arrays = {name: getattr(self, name) for name in ("values", "image", "std", "intrinsics")}
        given = {name: (np.shape(a), getattr(a, "dtype", type(a))) for name, a in arrays.items() if a is not None}
        size = np.shape(self.values)
        wanted = {"values": (size, "f"), "image": ((*size, 3), "u"), "std": (size, "f"), "intrinsics": ((3, 3), "f")}
        fits = all(isinstance(a, np.ndarray | None) for a in arrays.values()) and len(size) == 2 and min(size) > 0
        if not fits or any((shape, dtype.kind) != wanted[name] for name, (shape, dtype) in given.items()):
            what = ", ".join(f"{name} {dtype} {shape}" for name, (shape, dtype) in given.items())
            hint = "give NumPy arrays: float values (H,W), uint8 image (H,W,3), float std (H,W) and intrinsics (3,3)"
            raise ConfigError(f"these do not fit: {what}", where=self.source or "DepthResult", next_action=hint)

    def __repr__(self) -> str:
        """One line: size, what the numbers are and their range, the network, the picture."""
        rows, columns = self.values.shape
        known = self.values[np.isfinite(self.values)]
        ends = f"{known.min():.3g} to {known.max():.3g} {self.unit}" if known.size else "nothing known"
        names = [f"{key}={getattr(self, key)!r}" for key in ("model", "source") if getattr(self, key)]
        return f"DepthResult({', '.join([f'{rows}x{columns}', self.ambiguity.value, ends, *names])})"

    @property
    def unit(self) -> str:
        """ "m" when `values` are metres."""
        return self.ambiguity.unit

    @property
    def depth(self) -> NDArray[np.float32]:
        """Depth, float32 (H,W): metres for METRIC, unitless for a relative depth.

        Raises:
            ConfigError: the values are a relative disparity, which is no depth before it is aligned.
        """
        if self.ambiguity is Ambiguity.AFFINE_DISPARITY:
            hint = "give scale anchors, align it to measured depth (mde.align), or read .values"
            raise ConfigError("this is a relative disparity, not a depth", where=self.model, next_action=hint)
        return self.values

    @property
    def noted(self) -> NotedMap:
        """What a file of the map holds: all but the picture."""
        return NotedMap(
            self.values, self.ambiguity, self.intrinsics, self.depth_range, self.model, self.source, self.std
        )

    def to_points(
        self,
        intrinsics: NDArray[np.float64] | None = None,
        *,
        scale: float | None = None,
        max_ratio: float | None = None,
    ) -> Cloud:
        """The coloured points of the map, in the camera frame: x right, y down, z forward.

        Args:
            intrinsics: (3,3), pixels of `values`; default those of the result.
            scale: metres per unit; only for a depth that is known up to a factor (SCALE).
            max_ratio: leaves out points beside an edge, where the depths of neighbours differ by more than this factor,
                such as 1.1: at edges networks put points into the air between front and back. None keeps all.

        Returns:
            Points float32 (N,3), metres, and colours uint8 (N,3), RGB; of the pixels with a finite depth, by rows.

        Raises:
            ConfigError: the camera is unknown, or the map is relative and no scale makes metres of it.
        """
        from mde.inference.outputs.clouds import depth_cloud

        return depth_cloud(self, intrinsics, scale=scale, max_ratio=max_ratio)

    def colorize(self, scale: ColourScale | None = None) -> NDArray[np.uint8]:
        """A picture of the map, uint8 (H,W,3) RGB: near is bright.

        Args:
            scale: default one for this picture alone, between its 1st and 99th percentile.
        """
        from mde.inference.outputs.pictures import depth_picture

        return depth_picture(self, scale)

    def save(self, path: str | Path, format: str | None = None, scale: ColourScale | None = None) -> Path:
        """Write the map to one file.

        Args:
            path: of the file. ``.png`` is the map itself in 16 bits; a picture of it is ``format="color"`` or ``.jpg``.
            format: one of `mde.inference.outputs.FORMATS`; default that of the suffix.
            scale: of the colours; see `colorize`.

        Returns:
            The path. Beside npy and PFM lies a second file, ``NAME.npy.json``, that says what the numbers mean.

        Raises:
            ConfigError: unknown format, a suffix that is not its own, a folder that cannot be written, a point cloud of
                a relative map or an unknown camera.
        """
        from mde.inference.outputs.files import save

        return save(self, Path(path), format, scale)

    def plot(self, scale: ColourScale | None = None) -> Figure:
        """A matplotlib figure: picture, map with a colour bar, and the standard deviation where there is one."""
        from mde.inference.outputs.plot import figure

        return figure(self, scale)

    def _repr_png_(self) -> bytes:
        """For notebooks: the picture beside the map."""
        from mde.inference.outputs.pictures import png_bytes, side_picture

        return png_bytes(side_picture(self, None))


def read_depth(path: str | Path) -> DepthResult:
    """Read back what `DepthResult.save` or ``mde predict`` wrote: png16, npz, npy, tiff, exr or pfm.

    Floats come back bit for bit, png16 to half of the step that it states (a depth below that to one step). For the
    depth maps of data sets see `mde.data.io.read_depth`.

    Returns:
        The map with what the file says of it; without the picture.

    Raises:
        DataFormatError: no such file, damaged, a picture of a map, or a file that does not say what its numbers mean.

    >>> from tempfile import TemporaryDirectory
    >>> made = DepthResult(np.array([[1.5, 2.5]], np.float32), Ambiguity.METRIC, model="UNet")
    >>> with TemporaryDirectory() as folder:
    ...     found = read_depth(made.save(f"{folder}/a.npy"))
    >>> found.values.tolist(), found.unit, found.model
    ([[1.5, 2.5]], 'm', 'UNet')
    """
    path = Path(path)
    if path.suffix.lower() not in NOTED_SUFFIXES:
        what = f"files of type {path.suffix or 'none'} hold no map"
        raise DataFormatError(what, where=path, next_action="give the raw file: png16, npz, npy, tiff, exr or pfm")
    noted = read_noted(path)
    if noted is None:
        hint = "say what they mean: mde.data.io.read_depth(path, encoding)"
        if path.suffix.lower() in {".npy", ".pfm"}:
            hint = f"bring {path.name}.json along, which lay beside it; or {hint}"
        raise DataFormatError("the file does not say what its numbers mean", where=path, next_action=hint)
    return DepthResult(**noted._asdict())


def masked(result: DepthResult, min_confidence: float) -> DepthResult:
    """The result without the pixels of which the network is not sure: they become NaN.

    The confidence of a pixel is 1 - std / depth, at least 0: 0.9 means a standard deviation of 10 % of the depth. A
    pixel without a standard deviation has none.

    Args:
        result: with a standard deviation.
        min_confidence: 0 to 1; 0 keeps all that has a standard deviation.

    Raises:
        ConfigError: no standard deviation, a map with an unknown shift, or a number out of range.
    """
    if not 0 <= min_confidence <= 1:
        what = f"a confidence lies between 0 and 1, got {min_confidence:g}"
        raise ConfigError(what, where="min_confidence", next_action="0.9 keeps what is sure to 10 % of its depth")
    if result.std is None:
        hint = "leave min_confidence out, take a network that says it (DeepLabSID), or average mirrored pictures"
        raise ConfigError("this network does not say how sure it is", where=result.model, next_action=hint)
    if result.ambiguity not in (Ambiguity.METRIC, Ambiguity.SCALE):
        what = f"a share of {result.unit} with an unknown shift says nothing"
        raise ConfigError(what, where="min_confidence", next_action="give scale anchors, or leave it out")
    with np.errstate(divide="ignore", invalid="ignore"):
        confidence = np.maximum(1 - result.std / result.values, 0)
        kept = (confidence >= min_confidence) & (result.values > 0)
    nan = np.float32(np.nan)
    return replace(result, values=np.where(kept, result.values, nan), std=np.where(kept, result.std, nan))
