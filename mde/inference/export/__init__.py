"""A trained network as one file that runs without this library: ONNX, or torch.export."""

from mde.inference.export.info import ExportInfo
from mde.inference.export.models import ExportedModel, OnnxModel, TorchModel
from mde.inference.export.parity import Parity, compare
from mde.inference.export.writing import export

__all__ = ["ExportInfo", "ExportedModel", "OnnxModel", "Parity", "TorchModel", "compare", "export"]
