"""The contract of the layouts of published sets."""

from __future__ import annotations

from tests.data.layout_contract import LayoutContract


class TestTartanAir(LayoutContract):
    layout = "unreal/tartanair"


class TestTartanAirV2(LayoutContract):
    layout = "unreal/tartanair_v2"


class TestStereo4K(LayoutContract):
    layout = "unreal/stereo4k"


class TestDenseDepth(LayoutContract):
    layout = "unreal/densedepth_h5"


class TestHypersim(LayoutContract):
    layout = "unreal/hypersim"
    relative = 2**-10  # float16


class TestVirtualKitti(LayoutContract):
    layout = "unreal/virtual_kitti"
    step = 0.01
