"""Public names cannot get lost: this list is the promise to users."""

from __future__ import annotations

from importlib import import_module

import pytest

PUBLIC = {
    "mde": """
        Alignment Ambiguity DepthResult EvalProtocol Prediction Predictor __version__ align get_protocol load read_depth
    """,
    "mde.types": """
        Ambiguity Batch Prediction StepOutput
    """,
    "mde.errors": """
        CheckpointError ConfigError DataFormatError DatasetNotFoundError MdeError NonFiniteLossError
        ProtocolMismatchError nearest
    """,
    "mde.codecs": """
        Binned DepthCodec Discretized Disparity Linear Log LogMetres Metres Ordinal Reciprocal
    """,
    "mde.protocol": """
        CROPS PROTOCOLS EvalProtocol get_protocol require_same
    """,
    "mde.losses": """
        BerHuLoss CameraLoss ClassCrossEntropy DenseDepthLoss DepthLoss GradientLoss GradientMatchingLoss L1Loss
        LossMaps MSELoss OrdinalLoss PhotometricLoss RMSELoss SILogLoss SmoothnessLoss SSIMLoss ScaleShiftInvariantLoss
        SoftBinCrossEntropy Space SurfaceNormalLoss VirtualNormalLoss WeightedSum berhu_loss class_cross_entropy
        gradient_loss gradient_matching_loss l1_loss mse_loss ordinal_loss photometric_loss rmse_loss
        scale_shift_invariant_loss silog_loss smoothness_loss soft_bin_cross_entropy soft_labels ssim_loss ssim_map
        surface_normal_loss surface_normals virtual_normal_loss
    """,
    "mde.metrics": """
        BoundaryF1 ClassErrors DepthMetrics EdgeErrors Flicker GroupedErrors ImageMetric NormalErrors PlaneErrors
        PointErrors RangeErrors SSIMMetric UncertaintyScores boundary_f1 depth_errors edge_distances edge_errors flicker
        normal_errors plane_errors point_errors uncertainty_scores
    """,
    "mde.demo": """
        Served serve
    """,
    "mde.data": """
        DepthDataModule DepthDataset KITTIDataModule KITTIDataset KITTISelectionDataModule MixedDataModule MixedDataset
        NYUDepthV2DataModule NYUDepthV2Dataset ProceduralDataModule ProceduralDataset RGBDFolderDataModule
        RGBDFolderDataset RawSample RightView SYNTHIADataModule SYNTHIADataset ShardedDataModule UnrealDataModule
        UnrealDataset
    """,
    "mde.data.kitti": """
        KITTIDataModule eigen_frames
    """,
    "mde.data.io": """
        DepthEncoding read_depth read_image write_depth write_image
    """,
    "mde.data.encodings": """
        ENCODINGS DepthEncoding get_encoding
    """,
    "mde.data.layouts": """
        Layout get_layout layouts recognise
    """,
    "mde.alignment": """
        Alignment Fit GlobalFit MODES align apply_fit fit require_mode
    """,
    "mde.inference": """
        Camera DepthResult OnnxModel Predictor TiledDepth masked read_depth sources
    """,
    "mde.inference.export": """
        ExportInfo ExportedModel OnnxModel Parity TorchModel compare export
    """,
    "mde.inference.flow": """
        Motion motion
    """,
    "mde.inference.temporal": """
        FlickerMeter FlowSmoothing SMOOTHERS ScaleLock make_smoother
    """,
    "mde.inference.video": """
        Clip ClipFrame ClipRun ClipWriter Eye Shown VIDEO_FORMATS Window clip_outputs predict_clip watch
    """,
    "mde.inference.outputs": """
        COLOURS FORMATS Cloud ColourScale masked paths read_depth require write write_whole
    """,
    "mde.crf": """
        DenseCRF
    """,
    "mde.models": """
        BilinearUpsample BinsHead Cyclic Decoder DeepLabSID DenseDepth DenseDepthDecoder DepthModule DepthNet DPTDecoder
        EigenDepth Encoder Head LightDecoder LinearHead MarigoldDepth Milestones OneCycle PolyDecay PretrainedDepth
        ResidualDecoder ResNetDepth SAMDepth SamEncoder Schedule SigmoidHead SmpEncoder StereoDepth TimmEncoder
        TorchvisionEncoder TransposedDecoder TransposedUpsample UNet UNetDecoder VitEncoder WarmupCosine
    """,
    "mde.report": """
        Case Comparison ImageScores Interval PairedFolder PredictionFolder Results ScoredRun Summary TruthFolder
        TruthSet
        activation_figure add_intervals compare curve_figure depth_figure evaluate_folder intervals metrics_table
        network_figure network_stages paired read_curves read_results read_run read_runs sensitivity write_results
    """,
    "mde.callbacks": """
        Alignments AtomicCheckpointIO AveragedWeights BestCheckpoint ChannelsLast Compile DecoderActivations EpochSeed
        ExtraMetrics FeatureCache FullScores Gallery GradualUnfreezing ImagePanels LastCheckpoint LossCurves
        PredictionWriter ResolutionCurriculum RunRecorder RunSummary Throughput
    """,
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_there(module):
    names = set(PUBLIC[module].split())
    found = import_module(module)
    assert names <= set(found.__all__), names - set(found.__all__)
    for name in found.__all__:
        assert getattr(found, name) is not None or name == "__version__"


def test_protocol_names_are_kept():
    promised = {"nyu_eigen", "nyu_densedepth", "kitti_eigen_garg_80", "kitti_eigen_garg_50", "none", "rooms", "street"}
    from mde.protocol import PROTOCOLS

    assert promised <= set(PROTOCOLS)


@pytest.mark.parametrize("module", ["mde", "mde.data", "mde.data.kitti", "mde.demo", "mde.doctor", "mde.inference"])
def test_an_unknown_name_is_an_attribute_error_that_helps(module):
    found = import_module(module)
    with pytest.raises(AttributeError, match=rf"{module}.*nothing.*public names: {', '.join(sorted(found.__all__))}"):
        found.nothing  # noqa: B018
    assert dir(found) == sorted(found.__all__)
