"""Layouts of this family."""

from __future__ import annotations

from mde.data.layouts import Layout

__all__ = ["LAYOUTS"]

LAYOUTS: tuple[Layout, ...] = ()
