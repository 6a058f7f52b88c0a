"""The named protocols: the library's own, and what the evaluators of others do, so that their tables can be reproduced.

`EvalProtocol.source` of each says whose convention it is and what this library does otherwise. One thing is otherwise
everywhere: an evaluator that turns a NaN of the prediction into a number (BTS, ZoeDepth) is not followed, a NaN that
counts is an error.
"""

from __future__ import annotations

from dataclasses import replace

from mde.errors import ConfigError, nearest
from mde.protocol.settings import EvalProtocol

__all__ = ["PROTOCOLS", "get_protocol"]

_BTS = "BTS, pytorch/bts_eval.py, as AdaBins and others after it"
_MD2 = "monodepth2, evaluate_depth.py"

_OWN = (
    EvalProtocol(name="none", source="all valid pixels"),
    EvalProtocol(name="rooms", max_depth=10.0, ground_truth="rendered", source="rendered rooms"),
    EvalProtocol(name="street", max_depth=80.0, ground_truth="rendered", source="rendered streets"),
    EvalProtocol(name="kinect", max_depth=10.0, ground_truth="raw", source="indoor sensors of 10 m range"),
    EvalProtocol(name="synthia_80", max_depth=80.0, ground_truth="rendered", source="SYNTHIA up to 80 m"),
    EvalProtocol(name="unreal_80", max_depth=80.0, ground_truth="rendered", source="Unreal outdoors"),
    EvalProtocol(name="unreal_20", max_depth=20.0, ground_truth="rendered", source="Unreal indoors"),
    # the benchmark counts every measured pixel; its files hold less than 256 m
    EvalProtocol(name="kitti_official", max_depth=256.0, ground_truth="official", source="KITTI's depth benchmark"),
)

_NYU = EvalProtocol(name="nyu_eigen", max_depth=10.0, crop="nyu_eigen", ground_truth="raw", source=_BTS)
_KITTI = EvalProtocol(
    name="kitti_eigen_garg_80", max_depth=80.0, crop="kitti_garg", ground_truth="official", source=_BTS
)
_VELODYNE = replace(
    _KITTI, name="kitti_eigen_garg_80_velodyne", ground_truth="velodyne", source="projected scans, crop of Garg"
)

_USUAL = (
    _NYU,
    replace(_NYU, name="bts_nyu"),
    replace(_NYU, name="nyu_eigen_filled", ground_truth="filled", source="the crop of Eigen on filled depth"),
    EvalProtocol(
        name="nyu_densedepth",
        max_depth=10.0,
        crop="nyu_densedepth",
        flip=True,
        ground_truth="filled",
        source="DenseDepth's crop and flip with the usual errors; see densedepth_official for its own",
    ),
    _KITTI,
    replace(_KITTI, name="bts_kitti"),
    replace(
        _KITTI,
        name="kitti_eigen_garg_80_kb",
        crop="kitti_garg_kb",
        source="AdaBins, ZoeDepth: Garg's shares of the 352x1216 crop",
    ),
    replace(_KITTI, name="kitti_eigen_garg_50", max_depth=50.0, source="as kitti_eigen_garg_80, up to 50 m"),
    _VELODYNE,
    replace(_VELODYNE, name="kitti_eigen_80", crop="kitti_eigen", source="Eigen et al. 2014"),
)

_MONODEPTH = replace(
    _VELODYNE,
    name="monodepth",
    space="disparity",
    source="monodepth, utils/evaluate_kitti.py: metres from disparity, focal length and baseline, resized as disparity",
)
_MONODEPTH2 = replace(_MONODEPTH, name="monodepth2", alignment="median", source=f"{_MD2} --eval_mono")
_SELF_SUPERVISED = (
    _MONODEPTH,
    replace(
        _MONODEPTH,
        name="monodepth_post_process",
        flip=True,
        flip_blend="ramp",
        source="monodepth, utils/evaluate_kitti.py on post-processed (pp) disparities",
    ),
    _MONODEPTH2,
    replace(
        _MONODEPTH2,
        name="monodepth2_post_process",
        flip=True,
        flip_blend="ramp",
        source=f"{_MD2} --eval_mono --post_process",
    ),
    replace(
        _MONODEPTH2,
        name="monodepth2_stereo",
        alignment="none",
        factor=5.4,
        source=f"{_MD2} --eval_stereo: trained with a baseline of 0.1, KITTI has 0.54 m",
    ),
    replace(
        _MONODEPTH2,
        name="monodepth2_benchmark",
        crop="none",
        bounds="positive",
        ground_truth="official",
        source=f"{_MD2} --eval_split eigen_benchmark: all measured pixels, also beyond 80 m",
    ),
    replace(
        _MONODEPTH2,
        name="monodepth2_nyu",
        max_depth=10.0,
        crop="nyu_monodepth2",
        ground_truth="filled",
        source=f"{_MD2} --eval_split nyu",
    ),
)

_METRIC = (
    replace(
        _NYU,
        name="zoedepth_nyu",
        flip=True,
        resize="bilinear_corners",
        source="ZoeDepth, evaluate.py and zoedepth/utils/misc.py; it rounds to three digits",
    ),
    replace(
        _KITTI,
        name="zoedepth_kitti",
        crop="kitti_garg_kb",
        flip=True,
        resize="bilinear_corners",
        source="ZoeDepth, evaluate.py and data_mono.py (do_kb_crop); image and truth are cropped before (data.kb_crop)",
    ),
    EvalProtocol(
        name="depth_anything_v2_indoor",
        max_depth=20.0,
        resize="bilinear_corners",
        bounds="inclusive",
        clamp=False,
        min_pixels=10,
        silog="half",
        ground_truth="rendered",
        source="Depth Anything V2, metric_depth/train.py on Hypersim",
    ),
    EvalProtocol(
        name="depth_anything_v2_outdoor",
        max_depth=80.0,
        resize="bilinear_corners",
        bounds="inclusive",
        clamp=False,
        min_pixels=10,
        silog="half",
        ground_truth="official",
        source="Depth Anything V2, metric_depth/train.py on KITTI: no crop",
    ),
    EvalProtocol(
        name="densedepth_official",
        min_depth=0.1,
        max_depth=10.0,
        crop="nyu_densedepth",
        flip=True,
        pooling="pixel",
        bounds="positive",
        swapped=True,
        ground_truth="filled",
        source="DenseDepth, utils.py: its errors take (predictions, truth) where they expect (truth, predictions), and "
        "pool all pixels; it clamps before it enlarges, this library after",
    ),
)

_MARIGOLD = replace(
    _NYU, name="marigold_nyu", alignment="scale_shift", source="Marigold, script/depth/eval.py least_square"
)
_RELATIVE = (
    _MARIGOLD,
    replace(
        _MARIGOLD,
        name="marigold_nyu_disparity",
        alignment="disparity_scale_shift",
        source="Marigold, script/depth/eval.py least_square_disparity; it leaves predictions of 0 out of the fit",
    ),
    replace(
        _MARIGOLD,
        name="marigold_kitti",
        min_depth=1e-5,
        max_depth=80.0,
        crop="kitti_eigen_kb",
        ground_truth="official",
        source="Marigold, script/depth/eval.py and kitti_dataset.py: Eigen's shares of the 352x1216 crop",
    ),
    EvalProtocol(
        name="midas_nyu",
        max_depth=10.0,
        alignment="disparity_scale_shift",
        ground_truth="raw",
        source="MiDaS (Ranftl et al. 2020): disparity of at least 1/10; it says nothing of a crop",
    ),
    EvalProtocol(
        name="midas_kitti",
        max_depth=80.0,
        alignment="disparity_scale_shift",
        ground_truth="official",
        source="MiDaS (Ranftl et al. 2020): disparity of at least 1/80; it says nothing of a crop",
    ),
)

_PAPER_0 = EvalProtocol(
    name="paper0",
    max_depth=10.0,
    pooling="mse",
    resize="bilinear_corners",
    bounds="positive",
    clamp=False,
    ground_truth="filled",
    source="paper 0: no crop, cap or clamp, rmse from the mean of the images' mse; its unit is 10 m: times 10 its rmse "
    "is in metres",
)
_PAPER_0_DA = replace(
    _PAPER_0,
    name="paper0_depth_anything",
    alignment="disparity_scale_shift",
    resize="bicubic",
    alignment_scope="set",
    alignment_pooling="image",
    source="paper 0, the row of Depth Anything: the mean of the constants of all test images serves each of them",
)
_PAPER_2 = EvalProtocol(
    name="paper2",
    max_depth=80.0,
    rmse_log="si",
    ground_truth="official",
    source="paper 2, eq. 5 with the root that its name asks for",
)
_PAPERS = (
    _PAPER_0,
    _PAPER_0_DA,
    replace(
        _PAPER_0_DA,
        name="paper0_depth_anything_train",
        alignment_scope="train",
        source="as paper0_depth_anything, but the constants are found on the training set: the test set stays unseen",
    ),
    EvalProtocol(
        name="paper1",
        max_depth=20.0,
        pooling="batch16",
        bounds="positive",
        ground_truth="rendered",
        source="paper 1: rmse of batches of 16, averaged; it does not clamp, this library does, for the sake of the "
        "errors that take logarithms",
    ),
    _PAPER_2,
    replace(_PAPER_2, name="paper2_literal", rmse_log="si_mse", source="paper 2, eq. 5 to the letter, without a root"),
    replace(_PAPER_2, name="paper2_synthia", ground_truth="rendered", source="paper2 on SYNTHIA"),
    EvalProtocol(
        name="paper3",
        min_depth=0.1,
        max_depth=10.0,
        ground_truth="filled",
        source="paper 3: the usual errors in metres on filled depth, the half-size output enlarged bilinearly",
    ),
)

PROTOCOLS: dict[str, EvalProtocol] = {
    protocol.name: protocol for protocol in (*_OWN, *_USUAL, *_SELF_SUPERVISED, *_METRIC, *_RELATIVE, *_PAPERS)
}


def get_protocol(name: str) -> EvalProtocol:
    """Return a named protocol.

    Raises:
        ConfigError: there is none of this name; the message lists the nearest.

    >>> get_protocol("kitti_eigen_garg_80").max_depth
    80.0
    >>> get_protocol("monodepth2_stereo").factor
    5.4
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"unknown protocol {name!r}", next_action=f"nearest: {nearest(name, PROTOCOLS)}")
    return replace(PROTOCOLS[name])
