"""Public names cannot get lost: this list is the promise to users."""

from __future__ import annotations

from importlib import import_module

import pytest

import mde

PUBLIC = {
    "mde": """
        Alignment Ambiguity EvalProtocol Prediction __version__ align get_protocol load
    """,
    "mde.types": """
        Ambiguity Batch Prediction StepOutput
    """,
    "mde.errors": """
        CheckpointError ConfigError DataFormatError DatasetNotFoundError MdeError NonFiniteLossError
        ProtocolMismatchError nearest
    """,
    "mde.codecs": """
        DepthCodec Discretized Disparity Linear Log Metres Reciprocal
    """,
    "mde.protocol": """
        CROPS PROTOCOLS EvalProtocol get_protocol require_same
    """,
    "mde.losses": """
        ClassCrossEntropy DenseDepthLoss DepthLoss GradientLoss L1Loss MSELoss RMSELoss SSIMLoss ScaleShiftInvariantLoss
        WeightedSum class_cross_entropy gradient_loss l1_loss mse_loss rmse_loss scale_shift_invariant_loss ssim_loss
        ssim_map
    """,
    "mde.metrics": """
        BoundaryF1 ClassErrors DepthMetrics EdgeErrors GroupedErrors ImageMetric NormalErrors PlaneErrors PointErrors
        RangeErrors SSIMMetric UncertaintyScores boundary_f1 depth_errors edge_distances edge_errors normal_errors
        plane_errors point_errors uncertainty_scores
    """,
    "mde.data": """
        DepthDataModule DepthDataset KITTIDataModule KITTIDataset KITTISelectionDataModule NYUDepthV2DataModule
        NYUDepthV2Dataset ProceduralDataModule ProceduralDataset RGBDFolderDataModule RGBDFolderDataset RawSample
        SYNTHIADataModule SYNTHIADataset ShardedDataModule UnrealDataModule UnrealDataset
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
        TiledDepth
    """,
    "mde.crf": """
        DenseCRF
    """,
    "mde.models": """
        BilinearUpsample Cyclic Decoder DeepLabSID DenseDepth DenseDepthDecoder DepthModule Encoder MarigoldDepth
        OneCycle PolyDecay PretrainedDepth ResNetDepth ResidualDecoder SAMDepth SamEncoder Schedule SmpEncoder
        TimmEncoder TorchvisionEncoder TransposedDecoder TransposedUpsample UNet UNetDecoder WarmupCosine
    """,
    "mde.report": """
        Comparison ImageScores Interval PairedFolder PredictionFolder Results ScoredRun Summary TruthFolder TruthSet
        activation_figure add_intervals compare curve_figure depth_figure evaluate_folder intervals metrics_table paired
        read_curves read_results read_run read_runs sensitivity write_results
    """,
    "mde.callbacks": """
        Alignments AtomicCheckpointIO AveragedWeights BestCheckpoint ChannelsLast Compile DecoderActivations EpochSeed
        ExtraMetrics FeatureCache FullScores Gallery GradualUnfreezing ImagePanels LastCheckpoint LossCurves
        PredictionWriter RunRecorder RunSummary Throughput
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


def test_an_unknown_name_is_an_attribute_error_that_helps():
    with pytest.raises(AttributeError, match=r"public names: .*load"):
        mde.nothing  # noqa: B018
    assert "load" in dir(mde)
