"""The workspace that compares methods on W&B, through W&B's own library. Needs the extra ``dashboard``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import wandb_workspaces.expr as expr
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

__all__ = ["METRICS", "build_workspace"]

METRICS = ("abs_rel", "rmse", "delta1", "silog")
_RANGES = ("0-2", "2-5", "5-10", "10-20", "20-40", "40-80")
# the fingerprint stands between them: numbers of two protocols never share a bar
_GROUPS = ("data", "fingerprint", "method")


def build_workspace(
    entity: str, project: str, name: str = "Methods", metrics: Sequence[str] = METRICS, protocol: str | None = None
) -> ws.Workspace:
    """Bars of each method on each data set, errors by range, pictures, curves, and the table of runs.

    It shows what `mde.callbacks.RunSummary` and `mde.callbacks.ImagePanels` send; nothing is fetched or sent here.

    Args:
        entity: team or user.
        project: of the runs.
        name: of the view.
        metrics: names of `mde.metrics.NAMES`; the runs are in the order of the first.
        protocol: show only runs under the protocol of this name or fingerprint.
    """
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=[
            _section("Methods on data sets", [_bars(metric) for metric in metrics], columns=2),
            _section("Error by range of the true depth", _range_panels(), columns=2),
            _section("Pictures", _picture_panels(), columns=1),
            _section("Training", _curves(metrics[0])),
            _section("Runs", _run_panels(metrics[0]), columns=1),
        ],
        settings=ws.WorkspaceSettings(x_axis="trainer/global_step", max_runs=50),
        runset_settings=_runs(metrics, protocol),
    )


def _runs(metrics: Sequence[str], protocol: str | None) -> ws.RunsetSettings:
    configs = ("method", "data", "protocol", "fingerprint", "parameters")
    best_first = metrics[0] not in _higher_is_better()
    key = "fingerprint" if protocol and _is_fingerprint(protocol) else "protocol"
    return ws.RunsetSettings(
        groupby=[expr.Config(group) for group in _GROUPS],
        filters=[] if protocol is None else [expr.Config(key) == protocol],
        order=[expr.Ordering(expr.Summary(f"test/{metrics[0]}"), ascending=best_first)],
        pinned_columns=[
            "run:displayName",
            *(f"config:{name}.value" for name in configs),
            *(f"summary:test/{metric}" for metric in metrics),
            f"summary:constant/{metrics[0]}",
            "summary:data/images",
        ],
    )


def _bars(metric: str) -> Any:
    better = "higher" if metric in _higher_is_better() else "lower"
    return wr.BarPlot(title=f"{metric} ({better} is better)", metrics=[f"test/{metric}"], groupby_aggfunc="mean")


def _range_panels() -> list[Any]:
    names = [f"test/range/{each}/abs_rel" for each in _RANGES]
    bars = wr.BarPlot(title="abs_rel by range of the true depth (m)", metrics=names, groupby_aggfunc="mean")
    return [bars, wr.WeavePanelSummaryTable(table_name="test/error_by_range")]


def _picture_panels() -> list[Any]:
    shown = (("test/panel", "test"), ("val/panel", "validation"), ("test/cloud/prediction", "point clouds"))
    return [
        wr.MediaBrowser(title=title, media_keys=[key], grid_x_axis="step", grid_y_axis="run") for key, title in shown
    ]


def _curves(metric: str) -> list[Any]:
    names = (f"val/{metric}", "val/loss", "train/loss_epoch", "train/images_per_second")
    return [wr.LinePlot(title=name, x="trainer/global_step", y=[name]) for name in names]


def _run_panels(metric: str) -> list[Any]:
    size = wr.ScatterPlot(
        title=f"{metric} by size", x=wr.SummaryMetric("parameters"), y=wr.SummaryMetric(f"test/{metric}"), log_x=True
    )
    return [size, wr.RunComparer(diff_only="split")]


def _section(name: str, panels: Sequence[Any], columns: int = 3) -> ws.Section:
    rows = -(-len(panels) // columns)
    layout = ws.SectionLayoutSettings(columns=columns, rows=rows)
    return ws.Section(name=name, panels=list(panels), is_open=True, layout_settings=layout)


def _is_fingerprint(text: str) -> bool:
    return len(text) == 12 and set(text) <= set("0123456789abcdef")


def _higher_is_better() -> frozenset[str]:
    from mde.metrics import HIGHER_IS_BETTER

    return frozenset(HIGHER_IS_BETTER)
