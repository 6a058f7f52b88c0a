"""Metrics: errors of each image (`depth_errors`, `boundary_f1`, …) and the states that average them."""

from __future__ import annotations

from mde.metrics.boundary import BoundaryF1, EdgeErrors, boundary_f1, edge_distances, edge_errors
from mde.metrics.flicker import Flicker, flicker
from mde.metrics.functional import (
    HIGHER_IS_BETTER,
    LOG_NAMES,
    NAMES,
    depth_errors,
    errors_from_sums,
    log_errors_from_sums,
    pixel_sums,
)
from mde.metrics.groups import GroupedErrors
from mde.metrics.images import ImageMetric
from mde.metrics.modular import BatchErrors, Counts, DepthMetrics
from mde.metrics.normals import NormalErrors, PlaneErrors, normal_errors, plane_errors
from mde.metrics.points import PointErrors, point_errors
from mde.metrics.ranges import RangeErrors
from mde.metrics.semantic import ClassErrors
from mde.metrics.ssim import SSIMMetric, ssim_per_image
from mde.metrics.uncertainty import UncertaintyScores, uncertainty_scores

__all__ = [
    "HIGHER_IS_BETTER",
    "LOG_NAMES",
    "NAMES",
    "BatchErrors",
    "BoundaryF1",
    "ClassErrors",
    "Counts",
    "DepthMetrics",
    "EdgeErrors",
    "Flicker",
    "GroupedErrors",
    "ImageMetric",
    "NormalErrors",
    "PlaneErrors",
    "PointErrors",
    "RangeErrors",
    "SSIMMetric",
    "UncertaintyScores",
    "boundary_f1",
    "depth_errors",
    "edge_distances",
    "edge_errors",
    "errors_from_sums",
    "flicker",
    "log_errors_from_sums",
    "normal_errors",
    "pixel_sums",
    "plane_errors",
    "point_errors",
    "ssim_per_image",
    "uncertainty_scores",
]
