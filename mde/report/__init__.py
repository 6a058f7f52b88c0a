"""Tables and figures of results."""

from mde.report.figures import depth_figure
from mde.report.results import Results, read_results, write_results
from mde.report.tables import metrics_table

__all__ = ["Results", "depth_figure", "metrics_table", "read_results", "write_results"]
