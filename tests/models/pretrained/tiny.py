"""A tiny random network of each family, as settings of `PretrainedDepth`."""

from __future__ import annotations

from typing import Any

import torch

from mde.models.pretrained import PretrainedDepth

DINO: dict[str, Any] = {
    "model_type": "dinov2", "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "mlp_ratio": 2,
    "image_size": 56, "patch_size": 14, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False,
    "initializer_range": 0.2,
}  # fmt: skip
NECK: dict[str, Any] = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16}
DEPTH_ANYTHING: dict[str, Any] = {
    "model_type": "depth_anything", "backbone_config": DINO, "reassemble_hidden_size": 24, "head_hidden_size": 8,
    "patch_size": 14, **NECK,
}  # fmt: skip
BEIT: dict[str, Any] = {
    "model_type": "beit", "hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32,
    "image_size": 64, "patch_size": 16, "out_indices": [1, 2, 3, 4], "reshape_hidden_states": False,
    "use_relative_position_bias": True, "initializer_range": 0.2,
}  # fmt: skip
PATCHES: dict[str, Any] = {
    "model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2,
    "image_size": 32, "patch_size": 8, "initializer_range": 0.2,
}  # fmt: skip

# name: (config, preprocessing)
TINY: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "depth_anything": (DEPTH_ANYTHING, {"size": [28, 42]}),
    "depth_anything_metric": (
        {**DEPTH_ANYTHING, "depth_estimation_type": "metric", "max_depth": 10},
        {"size": [28, 42]},
    ),
    "dpt": (
        {
            "model_type": "dpt", "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2,
            "intermediate_size": 32, "backbone_out_indices": [0, 1, 2, 3], "image_size": 32, "patch_size": 8,
            "initializer_range": 0.2, **NECK,
        },
        {"size": [32, 32]},  # its neck takes square pictures only
    ),
    "zoedepth": (
        {
            "model_type": "zoedepth", "backbone_config": BEIT, "bottleneck_features": 16, "num_relative_features": 8,
            "bin_embedding_dim": 8, "num_attractors": [4, 2, 2, 1], **NECK,
            "bin_configurations": [{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
        },
        {"size": [64, 64]},
    ),
    "glpn": (
        {
            "model_type": "glpn", "depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16], "mlp_ratios": [2, 2, 2, 2],
            "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 8, "initializer_range": 0.2,
        },
        {},
    ),
    "depth_pro": (
        {
            "model_type": "depth_pro", "patch_size": 32, "fusion_hidden_size": 16, "intermediate_hook_ids": [1, 0],
            "intermediate_feature_dims": [8, 8], "scaled_images_ratios": [0.25, 0.5, 1],
            "scaled_images_overlap_ratios": [0.0, 0.5, 0.25], "scaled_images_feature_dims": [8, 8, 8],
            "use_fov_model": True, "image_model_config": PATCHES, "patch_model_config": PATCHES,
            "fov_model_config": PATCHES,
        },
        {"size": [128, 128]},
    ),
    "prompt_depth_anything": ({**DEPTH_ANYTHING, "model_type": "prompt_depth_anything"}, {"size": [28, 42]}),
}  # fmt: skip


def tiny(family: str, **kwargs: Any) -> PretrainedDepth:
    """A random network; the field of view of Depth Pro begins at 60 degrees instead of 0."""
    config, preprocessing = TINY[family]
    model = PretrainedDepth(family, None, config, kwargs.pop("preprocessing", preprocessing), **kwargs)
    if family == "depth_pro" and config["use_fov_model"]:
        last = [m for m in model.net.get_submodule("fov_model").modules() if isinstance(m, torch.nn.Conv2d)][-1]
        torch.nn.init.constant_(last.bias, 60.0)  # type: ignore[arg-type]
    return model
