"""Pictures from files and from memory: upright, RGB, with what their EXIF data say of the lens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mde.data.formats import read_bytes
from mde.data.formats.notes import note_in
from mde.data.io import decode_image
from mde.errors import ConfigError, DataFormatError
from mde.inference.camera import exif_focal
from mde.models.inputs import image_tensor

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["MAX_MEGAPIXELS", "Picture", "PictureInput", "decode_upright", "picture_of", "read_picture"]

PictureInput: TypeAlias = "str | Path | Image | NDArray[Any] | Tensor | Picture"

MAX_MEGAPIXELS = 80.0
_HIGHEST = 178.0  # what Pillow opens at all: twice its MAX_IMAGE_PIXELS
_NO_BYTES = ("F", "I")  # modes of Pillow: floats and 32-bit integers


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to predict.

    Attributes:
        image: (H,W,3), RGB; uint8, or float32 in [0,1].
        name: for people.
        focal_px: (fx, fy) in its pixels, where EXIF data say it.
    """

    image: NDArray[Any]
    name: str = ""
    focal_px: tuple[float, float] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def shown(self) -> NDArray[np.uint8]:
        """uint8 (H,W,3)."""
        if self.image.dtype == np.uint8:
            return self.image
        return (self.image * 255).round().clip(0, 255).astype(np.uint8)


def read_picture(path: str | Path, name: str | None = None, max_megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """Read a photograph, turned upright as its EXIF orientation says.

    The content counts, not the suffix. Grey becomes three equal channels, CMYK and palettes become RGB, transparency
    is dropped, 16-bit colour is cut to its upper 8 bits, of an animation the first frame is taken.

    Args:
        path: JPEG, PNG, WebP, TIFF, BMP, PPM, GIF or what else Pillow reads.
        name: of the picture, default its file name.
        max_megapixels: a larger picture is refused before it is decoded, 0 to 178.

    Raises:
        DataFormatError: missing, empty, cut off, no picture, too large, or a map that this library wrote.
        ConfigError: the limit is out of range.
    """
    if not 0 < max_megapixels <= _HIGHEST:
        what = f"the limit lies between 0 and {_HIGHEST:g} megapixels, got {max_megapixels:g}"
        raise ConfigError(what, where="max_megapixels", next_action="cut larger pictures into parts")
    return decode_upright(read_bytes(path), path, Path(path).name if name is None else name, max_megapixels)


def decode_upright(data: bytes, where: object, name: str, max_megapixels: float = MAX_MEGAPIXELS) -> Picture:
    """`read_picture` for the bytes of a file; `where` names them in errors."""
    import PIL.Image

    try:
        with PIL.Image.open(BytesIO(data)) as opened:  # reads the header only
            _require_size(opened.size, max_megapixels, where)
            focal = exif_focal(_exif(opened), opened.size[::-1])
            plain = opened.mode != "CMYK" and not getattr(opened, "is_animated", False) and opened.format != "GIF"
            if opened.mode in _NO_BYTES:
                what = "this holds floats or 32-bit numbers, no photograph"
                raise DataFormatError(what, where=where, next_action="is it a depth map? Give the photograph")
            if not plain:
                return Picture(_by_pillow(opened), name, focal)
    except PIL.Image.DecompressionBombError as error:
        raise _too_large(f"more than {_HIGHEST:g}", where, "make the picture smaller") from error
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, IndexError) as error:  # as Pillow's plugins raise
        hint = "give JPEG, PNG, WebP, TIFF, BMP, PPM or GIF; fetch or export a damaged file again"
        raise DataFormatError("no picture, or damaged", where=where, next_action=hint) from error
    if note_in(data, where) is not None:
        hint = "give photographs; write outputs to a folder of their own"
        raise DataFormatError("this is an output of mde, not a photograph", where=where, next_action=hint)
    return Picture(decode_image(data, where, upright=True), name, focal)


def picture_of(given: PictureInput, order: str = "rgb", name: str = "") -> Picture:
    """One picture from whatever holds it.

    Args:
        given: a path; a PIL image, which is turned upright like a file; a NumPy array (H,W,3) or a tensor (3,H,W),
            uint8 or float in [0,1]; a `Picture`, which comes back as it is.
        order: of the channels of arrays and tensors: "rgb", or "bgr" as OpenCV reads them.
        name: of the picture, where the input has none.

    Raises:
        DataFormatError: a file that cannot be read, another shape, type or range of numbers.
        ConfigError: the order is unknown.
    """
    if order not in ("rgb", "bgr"):
        raise ConfigError(f"unknown channel order {order!r}", where="order", next_action="use rgb or bgr")
    if isinstance(given, Picture):
        return given
    if isinstance(given, str | Path):
        return read_picture(given)
    if isinstance(given, Tensor):
        array = given.detach().cpu().permute(1, 2, 0).numpy() if given.ndim == 3 else np.empty(given.shape[1:])
    elif isinstance(given, np.ndarray):
        array = given
    elif hasattr(given, "getexif"):
        focal = exif_focal(_exif(given), given.size[::-1])
        return Picture(_by_pillow(given), name or Path(getattr(given, "filename", "")).name, focal)
    else:
        what = f"a {type(given).__name__} is no picture"
        raise DataFormatError(what, next_action="give a path, a PIL image, an array (H,W,3) or a tensor (3,H,W)")
    image_tensor(array)  # says what is wrong with shape, type or range
    image = array if array.dtype == np.uint8 else array.astype(np.float32)
    return Picture(np.ascontiguousarray(image if order == "rgb" else image[..., ::-1]), name)


def _by_pillow(opened: Image) -> NDArray[np.uint8]:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I;16"):  # Pillow would clip them at 255
        return np.repeat((np.asarray(upright) >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))


def _exif(opened: Image) -> Mapping[int, Any]:
    try:
        main = opened.getexif()
        return {**main, **main.get_ifd(0x8769)}
    except Exception:  # there is no end to what damaged EXIF data raise, and a picture is one without them
        return {}


def _require_size(size: tuple[int, int], limit: float, where: object) -> None:
    if size[0] * size[1] > limit * 1e6:
        hint = (
            f"raise the limit to {math.ceil(size[0] * size[1] / 1e6)} (--max-megapixels), or make the picture smaller"
        )
        raise _too_large(f"{size[0]}x{size[1]} pixels are more than {limit:g}", where, hint)


def _too_large(what: str, where: object, hint: str) -> DataFormatError:
    return DataFormatError(f"too large: {what} megapixels", where=where, next_action=hint)
