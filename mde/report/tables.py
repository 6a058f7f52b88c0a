"""Numbers as a person reads them, and one table maker for every form: terminal, Markdown, LaTeX, HTML."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mde.metrics import HIGHER_IS_BETTER as HIGHER_ERRORS
from mde.metrics.boundary import BoundaryF1
from mde.metrics.normals import NormalErrors
from mde.metrics.points import PointErrors
from mde.report.statistics import Interval

__all__ = ["HIGHER_IS_BETTER", "Cell", "Grid", "direction", "metrics_table", "number", "p_value", "variants_table"]

HIGHER_IS_BETTER = HIGHER_ERRORS | {"ssim"}

_HIGHER_COLUMNS = tuple(f"_{name}" for kind in (BoundaryF1, NormalErrors, PointErrors) for name in sorted(kind.higher))
_NEITHER = ("within_1_std", "within_2_std", "within_3_std")  # best where they are what a normal distribution has

_DIGITS = 4  # decimals of a number whose uncertainty is unknown
_SHOWN = ("abs_rel", "rmse", "silog", "delta1")
_MOST = 6  # decimals at most
_FRAME = 3  # columns of a terminal for the frame around a cell
_LABEL = 12  # columns of a terminal below which a name is not folded


@dataclass(frozen=True)
class Cell:
    """Text of a table; the best number of a column stands in bold, the second is underlined."""

    text: str
    best: bool = False
    second: bool = False


@dataclass(frozen=True)
class Grid:
    """A table without a form; rich prints it.

    Attributes:
        head: of the columns.
        rows: cells, as many as `head`; plain text stands for a cell that is not marked.
        title: above it.
        notes: below it.
        labels: how many columns on the left hold text and no numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    title: str = ""
    notes: Sequence[str] = ()
    labels: int = 1

    def markdown(self) -> str:
        """For a page or an issue."""

        def text(cell: Cell) -> str:
            return _marked(cell, re.sub(r"<(?=[\w/!])", "&lt;", cell.text.replace("|", "\\|")), "**{}**", "<u>{}</u>")

        rules = ["---" if column < self.labels else "---:" for column in range(len(self.head))]
        lines = [self._texts(self.head, text), rules, *(self._texts(row, text) for row in self.rows)]
        title = f"{self.title}\n\n" if self.title else ""
        notes = "".join(f"\n{note}\n" for note in self.notes)
        return title + "".join(f"| {' | '.join(line)} |\n" for line in lines) + notes

    def latex(self) -> str:
        """A ``tabular`` for a paper; needs the package booktabs."""

        def text(cell: Cell) -> str:
            return _marked(cell, _latex(cell.text), "\\textbf{{{}}}", "\\underline{{{}}}")

        lines = [f"% {self.title}"] if self.title else []
        lines += [f"\\begin{{tabular}}{{{'l' * self.labels}{'r' * (len(self.head) - self.labels)}}}", "\\toprule"]
        head, *rows = [" & ".join(self._texts(row, text)) + " \\\\" for row in (self.head, *self.rows)]
        lines += [head, "\\midrule", *rows, "\\bottomrule", "\\end{tabular}"]
        lines += [f"\\par\\noindent{{\\footnotesize {_latex(note)}}}" for note in self.notes]
        return "\n".join(lines) + "\n"

    def html(self) -> str:
        """A ``<table>`` element; title and notes stand beside it as they do in the other forms."""

        def text(cell: Cell) -> str:
            return _marked(cell, html.escape(cell.text), "<strong>{}</strong>", "<u>{}</u>")

        def line(row: Sequence[Cell | str], tag: str) -> str:
            classes = ["" if column < self.labels else ' class="number"' for column in range(len(self.head))]
            cells = zip(classes, self._texts(row, text), strict=True)
            return f"<tr>{''.join(f'<{tag}{kind}>{cell}</{tag}>' for kind, cell in cells)}</tr>\n"

        body = "".join(line(row, "td") for row in self.rows)
        title = f"<caption>{html.escape(self.title)}</caption>\n" if self.title else ""
        table = f"<table>\n{title}<thead>\n{line(self.head, 'th')}</thead>\n<tbody>\n{body}</tbody>\n</table>\n"
        return table + "".join(f"<p>{html.escape(note)}</p>\n" for note in self.notes)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal: numbers are never broken, texts where they must; without room for that, row under row."""
        least, most = self._needs()
        room = options.max_width - _FRAME * len(self.head) - 1
        if sum(least) > room:
            yield from self._stacked()
            return
        made = Table(title=escape(self.title) if self.title else None, title_justify="left", caption_justify="left")
        for column, (head, width) in enumerate(zip(self.head, _shared(least, most, room), strict=True)):
            justify: JustifyMethod = "left" if column < self.labels else "right"
            made.add_column(Text(head), justify=justify, overflow="fold", width=width)
        for row in self.rows:
            made.add_row(*(Text(cell.text, style=_style(cell)) for cell in _cells(row)))
        if self.notes:
            made.caption = Text("\n".join(self.notes))
        yield made

    def _needs(self) -> tuple[list[int], list[int]]:
        """Of each column the columns of a terminal that it needs at least, and those at which no cell is folded."""
        texts = zip(self.head, *(self._texts(row, lambda cell: cell.text) for row in self.rows), strict=True)
        least, most = [], []
        for column, cells in enumerate(texts):
            longest = max(cell_len(word) for text in cells for word in text.split(" "))
            least.append(min(longest, _LABEL) if column < self.labels else longest)
            most.append(max(map(cell_len, cells)))
        return least, most

    def _stacked(self) -> Iterator[Text]:
        """A line for each cell, with the head before it."""
        if self.title:
            yield Text(self.title, style="italic")
        wide = max(map(cell_len, self.head))
        for row in self.rows:
            yield Text()
            for head, cell in zip(self.head, _cells(row), strict=True):
                if cell.text:
                    yield Text.assemble(head + " " * (wide - cell_len(head)) + "  ", (cell.text, _style(cell)))
        if self.notes:
            yield Text("\n" + "\n".join(self.notes))

    def _texts(self, row: Sequence[Cell | str], text: Callable[[Cell], str]) -> list[str]:
        return [text(cell) for cell in _cells(row)]


def number(value: float, interval: Interval | None = None) -> str:
    """A value with half the width of its interval, both to the digits that mean something.

    Digits are those of the Particle Data Group (Review of Particle Physics, "Rounding"): of the uncertainty's three
    leading digits, up to 354 keep two, up to 949 keep one, and more round up to 1000.

    >>> number(0.14312, Interval(0.1392, 0.1472)), number(0.14312), number(4.1, Interval(2.9, 5.3))
    ('0.143 ± 0.004', '0.1431', '4.1 ± 1.2')
    """
    if not math.isfinite(value):
        return "-"
    half = 0.0 if interval is None else interval.half
    if not 0.5 * 10.0**-_MOST <= half < math.inf:
        return f"{value:.{_DIGITS}f}"
    exponent = math.floor(math.log10(half))
    leading = half / 10.0 ** (exponent - 2)
    decimals = min(max(0, -exponent + (leading < 354.5)), _MOST)
    return f"{value:.{decimals}f} ± {half:.{decimals}f}"


def p_value(p: float) -> str:
    """One significant digit; below a thousandth the size says no more.

    >>> p_value(0.0001), p_value(0.032), p_value(1.0)
    ('p < 0.001', 'p = 0.03', 'p = 1')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.1g}"


def direction(metric: str) -> str:
    """``↑`` where more is better, ``↓`` where less is, "" where neither; extra metrics are known by their last word.

    >>> direction("delta1"), direction("rmse"), direction("points_f_score")
    ('↑', '↓', '↑')
    """
    if metric.endswith(_NEITHER):
        return ""
    return "↑" if metric in HIGHER_IS_BETTER or metric.endswith(_HIGHER_COLUMNS) else "↓"


def metrics_table(
    metrics: Mapping[str, float],
    baseline: Mapping[str, float] | None,
    *,
    title: str,
    baseline_name: str = "constant",
    variants: Mapping[str, Mapping[str, float]] | None = None,
    intervals: Mapping[str, Interval] | None = None,
    ratio_intervals: Mapping[str, Interval] | None = None,
) -> Grid:
    """One row a metric; variants of the prediction beside it, and the constant predictor, with the ratio.

    Args:
        metrics: name -> value.
        baseline: the same metrics of the constant predictor, or None.
        title: above the table.
        baseline_name: head of the baseline's column.
        variants: the same metrics of other predictions of the network, by the head of their column.
        intervals: of the metrics, where there are some.
        ratio_intervals: of the metrics over the baseline's.
    """
    others = variants or {}
    head = ["metric", "network", *others, *([] if baseline is None else [baseline_name, "network / constant"])]
    rows: list[list[Cell | str]] = []
    for name, value in metrics.items():
        row: list[Cell | str] = [f"{name} {direction(name)}", Cell(number(value, (intervals or {}).get(name)), True)]
        row += [number(other.get(name, math.nan)) for other in others.values()]
        if baseline is not None:
            constant = baseline[name]
            ratio, spread = value / constant if constant else math.nan, (ratio_intervals or {}).get(name)
            row += [number(constant), number(ratio, spread) if spread else _short(ratio)]
        rows.append(row)
    return Grid(head, rows, title)


def variants_table(metrics: Mapping[str, float], variants: Mapping[str, Mapping[str, float]]) -> Grid:
    """Many variants: one row each after the network's own, the errors most looked at as columns."""
    shown = [name for name in _SHOWN if name in metrics]
    head = ["variant", *(f"{name} {direction(name)}" for name in shown)]
    every = {"network": metrics, **variants}
    rows = [[label, *(number(own.get(name, math.nan)) for name in shown)] for label, own in every.items()]
    return Grid(head, rows)


def _shared(least: Sequence[int], most: Sequence[int], room: int) -> list[int]:
    """Widths of columns: what they need, and of the rest the narrowest that lacks something gets the next."""
    widths = list(least)
    for _ in range(room - sum(least)):
        lacking = [column for column, width in enumerate(widths) if width < most[column]]
        if lacking:
            widths[min(lacking, key=lambda c: widths[c])] += 1
    return widths


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if math.isfinite(ratio) else "-"


def _cells(row: Sequence[Cell | str]) -> list[Cell]:
    return [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]


def _style(cell: Cell) -> str:
    return "bold" if cell.best else "underline" if cell.second else ""


def _marked(cell: Cell, text: str, best: str, second: str) -> str:
    return best.format(text) if cell.best else second.format(text) if cell.second else text


_LATEX = str.maketrans(
    {
        "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
        "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "<": "\\textless{}", ">": "\\textgreater{}",
        "±": "$\\pm$", "↑": "$\\uparrow$", "↓": "$\\downarrow$", "†": "$^\\dagger$", "‡": "$^\\ddagger$",
        "−": "$-$", "≠": "$\\neq$",
    }
)  # fmt: skip


def _latex(text: str) -> str:
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", text.translate(_LATEX))
