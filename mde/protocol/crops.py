"""The part of an image that counts, by the names under which papers quote it."""

from __future__ import annotations

from collections.abc import Callable

from mde.errors import DataFormatError

__all__ = ["CROPS", "Window"]

Window = tuple[int, int, int, int]
"""Half-open (top, bottom, left, right) in pixels."""


def _fraction_crop(top: float, bottom: float, left: float, right: float) -> Callable[[int, int], Window]:
    # int() truncation as in the evaluators of monodepth and BTS
    return lambda h, w: (int(top * h), int(bottom * h), int(left * w), int(right * w))


def _kb_crop(inner: Callable[[int, int], Window]) -> Callable[[int, int], Window]:
    """A crop taken inside KITTI's benchmark crop of 352x1216: bottom rows, middle columns (BTS, bts_dataloader.py)."""

    def window(h: int, w: int) -> Window:
        if h < 352 or w < 1216:
            raise DataFormatError(
                f"the benchmark crop of KITTI needs ground truth of at least 352x1216, this one is {h}x{w}",
                next_action="evaluate at the native size, or use a protocol without '_kb'",
            )
        above, before = h - 352, int((w - 1216) / 2)
        top, bottom, left, right = inner(352, 1216)
        return above + top, above + bottom, before + left, before + right

    return window


def _nyu_crop(top: int, bottom: int, left: int, right: int) -> Callable[[int, int], Window]:
    def window(h: int, w: int) -> Window:
        if (h, w) != (480, 640):
            raise DataFormatError(
                f"the NYU crops are defined on 480x640 ground truth, this one is {h}x{w}",
                next_action="evaluate at the native size, or use a protocol without a crop",
            )
        return top, bottom, left, right

    return window


_GARG = _fraction_crop(0.40810811, 0.99189189, 0.03594771, 0.96405229)
_EIGEN = _fraction_crop(0.3324324, 0.91351351, 0.0359477, 0.96405229)

CROPS: dict[str, Callable[[int, int], Window]] = {
    "none": lambda h, w: (0, h, 0, w),
    # Eigen et al. 2014 on NYU, as in BTS (bts_eval.py) and Marigold
    "nyu_eigen": _nyu_crop(45, 471, 41, 601),
    # DenseDepth (utils.py), its inclusive bounds made half-open
    "nyu_densedepth": _nyu_crop(20, 460, 24, 616),
    # monodepth2 (evaluate_depth.py), the same bounds taken as half-open
    "nyu_monodepth2": _nyu_crop(20, 459, 24, 615),
    # Garg et al. 2016 and Eigen et al. 2014 on KITTI, fractions as in monodepth (evaluate_kitti.py), of the full image
    "kitti_garg": _GARG,
    "kitti_eigen": _EIGEN,
    "kitti_kb": _kb_crop(lambda h, w: (0, h, 0, w)),
    # the same fractions of the 352x1216 crop: AdaBins and ZoeDepth (data_mono.py); some rows differ
    "kitti_garg_kb": _kb_crop(_GARG),
    # Marigold (kitti_dataset.py, data_kitti_eigen_test.yaml)
    "kitti_eigen_kb": _kb_crop(_EIGEN),
}
