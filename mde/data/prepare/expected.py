"""How many frames the published forms of a data set have, and how deep their depth files are."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["EIGHT_BIT", "FRAMES", "FREE_FORMS", "UNPUBLISHED"]

FRAMES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "nyu/labeled": {"train+val": 795, "test": 654},  # testNdxs and trainNdxs of the authors' splits.mat
        "nyu/densedepth": {"train+val": 50_688, "test": 654},  # rows of nyu2_train.csv and nyu2_test.csv
        "nyu/bts": {"train+val": 24_231, "test": 654},  # lines of BTS's nyudepthv2_{train,test}_files_with_gt.txt
        "nyu/h5": {"train+val": 47_584, "test": 654},  # card of sayakpaul/nyu_depth_v2, FastDepth's files
        "nyu/eigen_npy": {"test": 654},
        "kitti/raw": {"train+val": 23_158, "test": 652},  # Eigen's lists, where there is official depth
        "kitti/depth_selection": {"val": 1000, "test": 500},
        "synthia/rand_cityscapes": {"train+val+test": 9_400},  # frames 0000000 to 0009399
    }
)
"""Layout -> split, or splits together ("train+val"), -> number of frames. Only of forms whose number is fixed; splits
that are not named do not exist in that form."""

UNPUBLISHED = frozenset({("kitti/depth_selection", "test")})
"""Layout and split whose depth only the owners have."""

EIGHT_BIT = frozenset({"nyu/densedepth", "unreal/carla", "unreal/tartanair_v2"})
"""Layouts whose depth PNGs have 8 bits as published: grey, or a number spread over several channels."""

FREE_FORMS = frozenset({"folder/rgbd"})
"""Layouts without a published original: 8-bit depth there is worth a note and no more."""
