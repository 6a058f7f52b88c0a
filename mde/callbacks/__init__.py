"""What a run does beside the method's steps: checkpoints, records, pictures."""

from mde.callbacks.checkpoints import AtomicCheckpointIO, BestCheckpoint, LastCheckpoint
from mde.callbacks.pictures import ImagePanels
from mde.callbacks.predictions import PredictionWriter
from mde.callbacks.record import EpochSeed, RunRecorder, Throughput

__all__ = [
    "AtomicCheckpointIO",
    "BestCheckpoint",
    "EpochSeed",
    "ImagePanels",
    "LastCheckpoint",
    "PredictionWriter",
    "RunRecorder",
    "Throughput",
]
