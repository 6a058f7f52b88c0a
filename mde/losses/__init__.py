"""Losses: a function and its thin Module each, over valid pixels only. See `DepthLoss` for what all of them promise."""

from mde.losses.base import CameraLoss, DepthLoss
from mde.losses.compound import DenseDepthLoss, WeightedSum
from mde.losses.cross_entropy import ClassCrossEntropy, class_cross_entropy
from mde.losses.gradient import GradientLoss, gradient_loss
from mde.losses.maps import LossMaps, Space
from mde.losses.pixel import L1Loss, MSELoss, RMSELoss, l1_loss, mse_loss, rmse_loss
from mde.losses.scale_shift_invariant import ScaleShiftInvariantLoss, scale_shift_invariant_loss
from mde.losses.ssim import SSIMLoss, ssim_loss, ssim_map

__all__ = [
    "DepthLoss",
    "CameraLoss",
    "LossMaps",
    "Space",
    "L1Loss",
    "MSELoss",
    "RMSELoss",
    "GradientLoss",
    "SSIMLoss",
    "ScaleShiftInvariantLoss",
    "ClassCrossEntropy",
    "WeightedSum",
    "DenseDepthLoss",
    "l1_loss",
    "mse_loss",
    "rmse_loss",
    "gradient_loss",
    "ssim_loss",
    "ssim_map",
    "class_cross_entropy",
    "scale_shift_invariant_loss",
]
