"""A report as one HTML file that opens offline, and the comparison figure of a paper."""

from mde.report.page.content import Content, Method, Shown, gather
from mde.report.page.html import BUDGET, write_report
from mde.report.page.paper import write_figure

__all__ = ["BUDGET", "Content", "Method", "Shown", "gather", "write_figure", "write_report"]
