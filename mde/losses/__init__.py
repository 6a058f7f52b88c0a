"""Losses: a function and its thin Module each, over valid pixels only. See `DepthLoss` for what all of them promise."""

from mde.losses.base import CameraLoss, DepthLoss
from mde.losses.berhu import BerHuLoss, berhu_loss
from mde.losses.compound import DenseDepthLoss, WeightedSum
from mde.losses.cross_entropy import ClassCrossEntropy, class_cross_entropy
from mde.losses.gradient import GradientLoss, gradient_loss
from mde.losses.gradient_matching import GradientMatchingLoss, gradient_matching_loss
from mde.losses.maps import LossMaps, Space
from mde.losses.ordinal import OrdinalLoss, ordinal_loss
from mde.losses.photometric import PhotometricLoss, photometric_loss
from mde.losses.pixel import L1Loss, MSELoss, RMSELoss, l1_loss, mse_loss, rmse_loss
from mde.losses.scale_shift_invariant import ScaleShiftInvariantLoss, scale_shift_invariant_loss
from mde.losses.silog import SILogLoss, silog_loss
from mde.losses.smoothness import SmoothnessLoss, smoothness_loss
from mde.losses.soft_bins import SoftBinCrossEntropy, soft_bin_cross_entropy, soft_labels
from mde.losses.ssim import SSIMLoss, ssim_loss, ssim_map
from mde.losses.surface_normal import SurfaceNormalLoss, surface_normal_loss, surface_normals
from mde.losses.virtual_normal import VirtualNormalLoss, virtual_normal_loss

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
    "SILogLoss",
    "BerHuLoss",
    "GradientMatchingLoss",
    "SurfaceNormalLoss",
    "VirtualNormalLoss",
    "ClassCrossEntropy",
    "OrdinalLoss",
    "SoftBinCrossEntropy",
    "PhotometricLoss",
    "SmoothnessLoss",
    "WeightedSum",
    "DenseDepthLoss",
    "l1_loss",
    "mse_loss",
    "rmse_loss",
    "gradient_loss",
    "ssim_loss",
    "ssim_map",
    "photometric_loss",
    "smoothness_loss",
    "class_cross_entropy",
    "ordinal_loss",
    "soft_bin_cross_entropy",
    "soft_labels",
    "silog_loss",
    "berhu_loss",
    "gradient_matching_loss",
    "surface_normal_loss",
    "surface_normals",
    "virtual_normal_loss",
    "scale_shift_invariant_loss",
]
