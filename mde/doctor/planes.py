"""What kind of number a depth map holds, from the planes in it.

On a plane, the inverse of z-depth is an affine function of the pixel coordinates: 1/z = a u + b v + c. Distance along
the viewing ray is z·n with n = sqrt(1 + x² + y²), x and y the pixel in units of the focal length, and a disparity is
1/z itself. So rooms and streets, which are full of planes, tell which of the three a map holds. No camera pose, no
texture and no scale enters.

Let the map be z·n^k: k = 0 for z-depth, 1 for distance along the ray that was read as z, -1 for z that was divided by n
as if it were a distance. With q = 1/map, q = (a u + b v + c)·n^-k, and to first order in ln n

    q - q0 = (affine) - k · q0 · ln n,        q0 the affine function nearest to q,

which is linear in k: each patch of the frame that is nearly a plane gives one estimate of k, and the median over
patches and frames is robust against those that are not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["PlaneEvidence", "measure_planes"]

_CUTS = (2, 3, 4)  # a frame is cut into 2x2, 3x3 and 4x4 patches: larger ones tell more, smaller ones fit more planes
_SAMPLES = 24  # pixels along each side of a patch
_KNOWN = 0.6  # share of the pixels of a patch that must hold a measurement
_FLAT = 0.02  # relative distance from a plane (rms), above which a patch is no plane
_SLANT = 0.15  # relative change of depth over a patch, from which a plane tells depth from disparity


Values = NDArray[np.float64]
Mask = NDArray[np.bool_]


class PlaneEvidence(NamedTuple):
    """What the planes of one frame say; NaN where there is none.

    Attributes:
        exponent: median of k over the patches, see above.
        patches: number of planar patches behind it.
        inverse: log of the residual of ``map = affine`` over that of ``1/map = affine``, median over slanted patches:
            above 0 for depth, below 0 for a disparity.
    """

    exponent: float
    patches: int
    inverse: float


def measure_planes(
    depth: NDArray[np.float32], valid: NDArray[np.bool_], intrinsics: NDArray[np.float32]
) -> PlaneEvidence:
    """Estimate k and tell depth from disparity.

    Args:
        depth: float32 (H,W), any unit, taken for z-depth.
        valid: bool (H,W).
        intrinsics: (3,3), pixels; finite.
    """
    v, u = _patches(*depth.shape)
    kept = valid[v, u].mean(axis=1) >= _KNOWN
    if not kept.any():
        return PlaneEvidence(float("nan"), 0, float("nan"))
    v, u = v[kept], u[kept]
    known = valid[v, u]
    m = np.where(known, depth[v, u], 1).astype(np.float64)
    plane = np.stack([_centred(u), _centred(v), np.ones(u.shape)], axis=2)
    x, y = (u - intrinsics[0, 2]) / intrinsics[0, 0], (v - intrinsics[1, 2]) / intrinsics[1, 1]
    exponents, weights = _exponents(m, known, plane, np.log1p(x * x + y * y) / 2)
    inverse = _inverse(m, known, plane)
    middle = float(np.median(inverse)) if len(inverse) else float("nan")
    return PlaneEvidence(_weighted_median(exponents, weights), len(exponents), middle)


def _patches(height: int, width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the sampled pixels of all patches, both (patches, samples)."""
    rows, columns = [], []
    for cuts in _CUTS:
        for i in range(cuts):
            for j in range(cuts):
                v = np.linspace(i * height / cuts, (i + 1) * height / cuts - 1, _SAMPLES).astype(np.int64)
                u = np.linspace(j * width / cuts, (j + 1) * width / cuts - 1, _SAMPLES).astype(np.int64)
                rows.append(np.repeat(v, _SAMPLES))
                columns.append(np.tile(u, _SAMPLES))
    return np.stack(rows), np.stack(columns)


def _exponents(m: Values, known: Mask, plane: Values, log_n: Values) -> tuple[Values, Values]:
    """k of the patches that are planes under some k, and how much each tells."""
    q = 1 / m
    near = _fitted(plane, q, known)
    bend = near * log_n
    own = (bend - _fitted(plane, bend, known)) * known  # what of the bend no plane explains
    rest = (q - near) * known
    k = -(own * rest).sum(axis=1) / np.maximum((own**2).sum(axis=1), 1e-30)
    size = (q * known).sum(axis=1) / known.sum(axis=1)
    spread = _rms(rest + k[:, None] * own, known) / size
    flat = spread < _FLAT
    return k[flat], (_rms(own, known) / size / (spread + 1e-4))[flat]


def _inverse(m: Values, known: Mask, plane: Values) -> Values:
    """Log ratio of the residuals of the map and of its inverse, of slanted patches that are planes either way."""
    spreads = []
    slanted = np.zeros(len(m), bool)
    for values in (m, 1 / m):
        near = _fitted(plane, values, known)
        size = (values * known).sum(axis=1) / known.sum(axis=1)
        spreads.append(_rms((values - near) * known, known) / size)
        slanted |= (near.max(axis=1) - near.min(axis=1)) / size > _SLANT
    chosen = slanted & (np.minimum(*spreads) < _FLAT)
    return np.log((spreads[0] + 1e-5) / (spreads[1] + 1e-5))[chosen]


def _fitted(plane: Values, values: Values, known: Mask) -> Values:
    """The affine function nearest to the known values of each patch, at all its samples."""
    weighted = (plane * known[..., None]).swapaxes(1, 2)
    gram = weighted @ plane + 1e-9 * np.eye(3)  # a patch whose known pixels lie on a line has no plane
    solution = np.linalg.solve(gram, weighted @ values[..., None])
    return np.asarray((plane @ solution)[..., 0])


def _rms(values: Values, known: Mask) -> Values:
    return np.asarray(np.sqrt((values**2).sum(axis=1) / known.sum(axis=1)))


def _centred(places: NDArray[np.int64]) -> Values:
    """-1 to 1 over each patch."""
    low, high = places.min(axis=1, keepdims=True), places.max(axis=1, keepdims=True)
    return np.asarray((2 * places - low - high) / np.maximum(high - low, 1))


def _weighted_median(values: Values, weights: Values) -> float:
    if not len(values):
        return float("nan")
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])
