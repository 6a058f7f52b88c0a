"""Procedural textures for the ray caster: periodic line patterns with an exact box filter, and value noise.

Every pattern is filtered by the pixel's footprint on the surface, so that far surfaces turn into their mean colour
instead of aliasing. The box filter of a periodic pulse is the difference quotient of its integral (Ebert et al.,
"Texturing and Modeling", 3rd edition 2003, chapter 2, "Analytic prefiltering").
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["clouds", "noise", "pulse", "texture"]

F32 = NDArray[np.float32]
Ints = NDArray[np.intp]

_SIDE = 128  # of the noise lattice, a power of two: its period in cells


@cache
def _lattice() -> F32:
    """Random values in [-1,1], one per lattice point, the same in every process."""
    return np.random.Generator(np.random.PCG64(20240517)).uniform(-1, 1, _SIDE * _SIDE).astype(np.float32)


def _at(column: Ints, row: Ints) -> F32:
    return _lattice().take((row & (_SIDE - 1)) * _SIDE + (column & (_SIDE - 1)))


def pulse(x: F32, width: F32, duty: F32) -> F32:
    """How much of the interval of `width` centred at x lies on lines that cover [-duty/2, duty/2] of each unit period.

    >>> np.float32([0, 0.5]), pulse(np.float32([0, 0.5]), np.float32([1e-3, 1]), np.float32([0.2, 0.2])).round(3)
    (array([0. , 0.5], dtype=float32), array([1. , 0.2], dtype=float32))
    """
    width = np.maximum(width, np.float32(1e-3))  # a thousandth of a period is sharp, and keeps the quotient accurate
    base = np.floor(x)
    middle = x - base + duty * np.float32(0.5)
    reach = width * np.float32(0.5)
    return (_integral(middle + reach, duty) - _integral(middle - reach, duty)) / width


def _integral(x: F32, duty: F32) -> F32:
    whole = np.floor(x)
    return whole * duty + np.minimum(x - whole, duty)


def noise(x: F32, y: F32, footprint: F32) -> F32:
    """Two octaves of value noise in [-1,1]; each fades out where a pixel covers more than its cells.

    Args:
        x: in cells of the noise.
        y: like `x`.
        footprint: size of the pixel in cells.
    """
    coarse = _octave(x, y) * _fade(footprint)
    # 2.3: no whole ratio, so that the octaves' lattices do not coincide
    fine = _octave(x * np.float32(2.3), y * np.float32(2.3)) * _fade(footprint * np.float32(2.3))
    return coarse * np.float32(0.65) + fine * np.float32(0.35)


def _fade(footprint: F32) -> F32:
    return np.minimum(np.maximum(np.float32(1.5) - footprint, np.float32(0)), np.float32(1))


def _octave(x: F32, y: F32) -> F32:
    x0, y0 = np.floor(x), np.floor(y)
    a, b = x - x0, y - y0
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = x0.astype(np.intp), y0.astype(np.intp)
    low = _at(i, j)
    low += a * (_at(i + 1, j) - low)
    high = _at(i, j + 1)
    high += a * (_at(i + 1, j + 1) - high)
    return low + b * (high - low)


def texture(table: F32, ids: Ints, u: F32, v: F32, foot_u: F32, foot_v: F32, salt: Ints) -> tuple[F32, F32]:
    """Colour of surface points.

    Args:
        table: (columns, M) of `Scene.table`.
        ids: (N,) material of each point.
        u: (N,) metres along the surface.
        v: like `u`, across.
        foot_u: (N,) metres that the pixel covers along u.
        foot_v: like `foot_u`, along v.
        salt: (N,) integer that differs between objects of one material.

    Returns:
        Linear reflectance (3,N) in [0,1] and emission (N,).
    """
    m = table.take(ids, axis=1)
    base, second, grain, (cell_u, cell_v, duty_u, duty_v), (shift, tint, grain_u, grain_v, add, times, glow) = (
        m[0:3],
        m[3:6],
        m[6:9],
        m[9:13],
        m[13:20],
    )
    y = v * cell_v
    row = np.floor(y)
    x = u * cell_u + shift * row
    width_u, width_v = foot_u * cell_u, foot_v * cell_v
    p, q = pulse(x, width_u, duty_u), pulse(y, width_v, duty_v)
    mix = add * (p + q) + times * p * q
    lot = _at(np.floor(x).astype(np.intp) + 7 * salt, row.astype(np.intp) + salt)
    tint = tint * lot * _fade(np.maximum(width_u, width_v))
    offset = (salt * 13 % 61).astype(np.float32)
    rough = noise(u * grain_u + offset, v * grain_v + offset, np.maximum(foot_u * grain_u, foot_v * grain_v))
    colour = base * (1 + tint)
    colour += mix * (second - colour)
    colour += grain * rough
    return np.clip(colour, np.float32(0.01), np.float32(1), out=colour), glow


def clouds(x: F32, y: F32) -> F32:
    """Cloud density in [0,1] over a plane far above, coordinates in cells."""
    return np.clip(noise(x, y, np.zeros_like(x)) * np.float32(1.2) + np.float32(0.3), 0, 1)
