"""Results: written, read, compared, drawn; predictions of any tool scored; conventions found."""

from mde.report.activations import activation_figure
from mde.report.comparison import Comparison, compare
from mde.report.curves import curve_figure, read_curves
from mde.report.evaluation import evaluate_folder
from mde.report.figures import depth_figure
from mde.report.networks import network_figure, network_stages
from mde.report.pairs import Case, PairedFolder, TruthFolder, TruthSet
from mde.report.predictions import PredictionFolder
from mde.report.results import Results, add_intervals, read_results, write_results
from mde.report.runs import ScoredRun, read_run, read_runs
from mde.report.scores import ImageScores
from mde.report.sensitivity import sensitivity  # the function, which has the name of its module
from mde.report.statistics import Interval, intervals, paired
from mde.report.summary import Summary
from mde.report.tables import metrics_table

__all__ = [
    "Case",
    "Comparison",
    "ImageScores",
    "Interval",
    "PairedFolder",
    "PredictionFolder",
    "Results",
    "ScoredRun",
    "Summary",
    "TruthFolder",
    "TruthSet",
    "activation_figure",
    "add_intervals",
    "compare",
    "curve_figure",
    "depth_figure",
    "evaluate_folder",
    "intervals",
    "metrics_table",
    "network_figure",
    "network_stages",
    "paired",
    "read_curves",
    "read_results",
    "read_run",
    "read_runs",
    "sensitivity",
    "write_results",
]
