"""Metrics: errors of each image (`depth_errors`) and the states that average them (`DepthMetrics`, `SSIMMetric`)."""

from __future__ import annotations

from mde.metrics.functional import HIGHER_IS_BETTER, NAMES, depth_errors, errors_from_sums, pixel_sums
from mde.metrics.modular import BatchErrors, Counts, DepthMetrics
from mde.metrics.ssim import SSIMMetric, ssim_per_image

__all__ = [
    "HIGHER_IS_BETTER",
    "NAMES",
    "BatchErrors",
    "Counts",
    "DepthMetrics",
    "SSIMMetric",
    "depth_errors",
    "errors_from_sums",
    "pixel_sums",
    "ssim_per_image",
]
