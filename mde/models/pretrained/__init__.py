"""Depth networks of other authors, from the Hugging Face hub or a folder."""

from mde.models.pretrained.marigold import MarigoldDepth
from mde.models.pretrained.module import PretrainedDepth
from mde.models.pretrained.preprocessing import Preprocessing

__all__ = ["MarigoldDepth", "Preprocessing", "PretrainedDepth"]
