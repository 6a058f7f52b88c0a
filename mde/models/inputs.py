"""From whatever holds a picture to the tensor that a network takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mde.errors import DataFormatError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageInput", "image_tensor", "in_unit_range", "picture_tensor"]

ImageInput: TypeAlias = "Tensor | NDArray[Any] | Image | str | Path"


def image_tensor(image: ImageInput) -> Tensor:
    """`picture_tensor` as float32 (B,3,H,W), RGB in [0,1]."""
    return in_unit_range(picture_tensor(image))


def in_unit_range(pictures: Tensor) -> Tensor:
    """Bytes, 0 to 255, as float32 in [0,1]; floats as they are."""
    return pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures


def picture_tensor(image: ImageInput) -> Tensor:
    """Turn one picture, or a batch of tensors, into RGB (B,3,H,W): bytes stay uint8, the rest is float32 in [0,1].

    Args:
        image: a path; a PIL image; a NumPy array (H,W,3) in RGB order, uint8 or float in [0,1]; a tensor (3,H,W) or
            (B,3,H,W), uint8 or float in [0,1].

    Raises:
        DataFormatError: another shape, another type, or float values outside [0, 1].
    """
    if isinstance(image, str | Path):
        from PIL import Image as pillow

        try:
            with pillow.open(image) as opened:
                return picture_tensor(np.asarray(opened.convert("RGB")))
        except OSError as error:
            raise DataFormatError(f"not a readable image ({error})", where=image) from error
    if isinstance(image, Tensor):
        tensor = image if image.ndim == 4 else image[None]
    else:
        array = np.asarray(image.convert("RGB") if hasattr(image, "convert") else image)
        if array.ndim != 3 or array.shape[2] != 3:
            raise DataFormatError(
                f"an array image must be (H,W,3) RGB, is {array.shape}", next_action="convert it to RGB"
            )
        tensor = torch.from_numpy(np.array(array)).permute(2, 0, 1)[None]
    if tensor.ndim != 4 or tensor.shape[1] != 3:
        raise DataFormatError(f"a tensor image must be (3,H,W) or (B,3,H,W), is {tuple(tensor.shape)}")
    return tensor if tensor.dtype == torch.uint8 else _checked(tensor)


def _checked(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        raise DataFormatError(f"an image must be uint8 or float in [0,1], is {tensor.dtype}")
    low, high = float(tensor.min()), float(tensor.max())
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise DataFormatError(
            f"a float image must lie in [0,1], this one in [{low:g}, {high:g}]",
            next_action="divide by 255, and do not normalise by mean and std: the encoder does that",
        )
    return tensor.float()
