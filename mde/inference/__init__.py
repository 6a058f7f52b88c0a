"""Ways to use a trained method that give another prediction than the method alone."""

from mde.inference.tiling import TiledDepth

__all__ = ["TiledDepth"]
