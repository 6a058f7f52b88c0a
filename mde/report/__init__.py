"""Tables and figures of results."""

from mde.report.activations import activation_figure
from mde.report.curves import curve_figure, read_curves
from mde.report.figures import depth_figure
from mde.report.results import Results, read_results, write_results
from mde.report.summary import Summary
from mde.report.tables import metrics_table

__all__ = [
    "Results",
    "Summary",
    "activation_figure",
    "curve_figure",
    "depth_figure",
    "metrics_table",
    "read_curves",
    "read_results",
    "write_results",
]
