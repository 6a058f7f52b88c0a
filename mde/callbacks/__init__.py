"""What a run does beside the method's steps: checkpoints, records, pictures."""

from mde.callbacks.activations import DecoderActivations
from mde.callbacks.averaging import AveragedWeights
from mde.callbacks.checkpoints import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from mde.callbacks.curves import LossCurves
from mde.callbacks.features import FeatureCache
from mde.callbacks.gallery import Gallery
from mde.callbacks.panels import RunSummary
from mde.callbacks.pictures import ImagePanels
from mde.callbacks.predictions import PredictionWriter
from mde.callbacks.progress import EpochLines
from mde.callbacks.record import EpochSeed, RunRecorder, Throughput
from mde.callbacks.resolution import ResolutionCurriculum
from mde.callbacks.scores import Alignments, ExtraMetrics, FullScores
from mde.callbacks.speed import ChannelsLast, Compile
from mde.callbacks.unfreeze import GradualUnfreezing

__all__ = [
    "Alignments",
    "AtomicCheckpointIO",
    "AveragedWeights",
    "BestCheckpoint",
    "ChannelsLast",
    "Compile",
    "DecoderActivations",
    "EpochLines",
    "EpochSeed",
    "ExtraMetrics",
    "FeatureCache",
    "FullScores",
    "Gallery",
    "GradualUnfreezing",
    "ImagePanels",
    "LastCheckpoint",
    "LossCurves",
    "PredictionWriter",
    "ResolutionCurriculum",
    "RunRecorder",
    "RunSummary",
    "Throughput",
]
