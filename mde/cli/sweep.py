"""``mde sweep``: train and test every combination of settings with several seeds, and compare them in one table."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING

from mde.cli.arguments import Parser
from mde.cli.environment import prepare_process
from mde.cli.sweep_plan import Plan, Run, read_plan, settings_of
from mde.console import console
from mde.errors import ConfigError, DataFormatError

if TYPE_CHECKING:
    from mde.report.results import Results

__all__ = ["make_parser", "run"]


def run(words: Sequence[str]) -> int:
    """Check every combination, train what has no result yet, write the table.

    Returns:
        0; 1 if a run failed; 2 if a setting is wrong, before anything was trained.
    """
    options = make_parser().parse_args(list(words))
    if options.jobs < 1:
        raise ConfigError(f"-j must be at least 1, got {options.jobs}")
    plan = _plan(options)
    root = Path(options.root) / (options.name or Path(options.sweep or plan.configs[0]).stem)
    groups = plan.groups(root)
    prepare_process()
    from mde.cli.train import check_trainer_command

    for group in groups:
        if code := check_trainer_command(group[0].words):
            return code
    todo = [each for group in groups for each in group if _finished(each) is None]
    print(f"{root}: {len(groups)} combination(s) of {len(plan.seeds)} seed(s), {len(todo)} run(s) to do", flush=True)
    if options.dry_run:
        print("".join(f"  mde {' '.join(each.command())}\n" for each in todo), end="")
        return 0
    failed = _train_all(todo, options.jobs)
    _report(plan, groups, root, options.metrics.split(","))
    return 1 if failed else 0


def _plan(options: argparse.Namespace) -> Plan:
    plan = read_plan(options.sweep) if options.sweep else Plan((), {}, (0,))
    plan = replace(plan, settings={**plan.settings, **settings_of(options.set)})
    if options.config:
        plan = replace(plan, configs=tuple(options.config))
    if options.seeds:
        try:
            plan = replace(plan, seeds=tuple(int(seed) for seed in options.seeds.split(",")))
        except ValueError as error:
            raise ConfigError(f"not seeds: {options.seeds!r}", where="--seeds", next_action="write 0,1,2") from error
    if not plan.recipes and not (plan.configs and plan.settings):
        hint = "give a sweep, or --config and --set KEY=VALUE,VALUE"
        raise ConfigError("nothing to compare", next_action=hint)
    return plan


def _finished(each: Run) -> Results | None:
    """The newest result of a run; a file that was cut off is none."""
    from mde.report import read_results

    for path in sorted(each.folder.glob("*/results.json"), reverse=True):
        with suppress(DataFormatError):
            return read_results(path)
    return None


# ---- training --------------------------------------------------------------------------------------------------------


def _train_all(todo: Sequence[Run], jobs: int) -> int:
    """Train all, one after the other or in `jobs` processes; returns how many failed."""
    failed = 0
    for number, (each, code) in enumerate(_one_by_one(todo) if jobs == 1 else _side_by_side(todo, jobs), start=1):
        found = _finished(each)
        failed += found is None
        score = f"failed with exit code {code}" if found is None else f"abs_rel {found.metrics['abs_rel']:.4f}"
        print(f"[{number}/{len(todo)}] {each.folder.name}: {score}", flush=True)
    return failed


def _one_by_one(todo: Sequence[Run]) -> Iterator[tuple[Run, int]]:
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # started in the background of a script
    for each in todo:
        code = _train(each)
        # the Trainer leaves the signal ignored when it was interrupted
        if code and not deaf and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            raise KeyboardInterrupt
        yield each, code


def _side_by_side(todo: Sequence[Run], jobs: int) -> Iterator[tuple[Run, int]]:
    """Each process has its share of the cores; what a run says goes to a file in its folder."""
    context = multiprocessing.get_context("spawn")
    shares: Queue[int] = context.Queue()
    for number in range(jobs):
        shares.put(number)
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_settle, initargs=(shares, jobs))
    try:
        futures = {pool.submit(_train_into_log, each): each for each in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _settle(shares: Queue[int], jobs: int) -> None:
    """Take a share of the cores, before torch counts them."""
    if hasattr(os, "sched_setaffinity"):
        number, cores = shares.get(), sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[number::jobs] or {cores[number % len(cores)]})
    prepare_process()


def _train_into_log(each: Run) -> int:
    each.folder.mkdir(parents=True, exist_ok=True)
    with (each.folder / "log.txt").open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())  # also what libraries and loader processes write
    return _train(each)


def _train(each: Run) -> int:
    from mde.cli.train import run_trainer_command

    try:
        return run_trainer_command(each.command())
    except Exception:  # the others can still succeed
        traceback.print_exc()
        return 1


# ---- table -----------------------------------------------------------------------------------------------------------


def _report(plan: Plan, groups: Sequence[Sequence[Run]], root: Path, metrics: Sequence[str]) -> None:
    from mde.report import Summary

    found = [(group[0].labels, [r for each in group if (r := _finished(each)) is not None]) for group in groups]
    protocols = {_protocol(runs): None for _, runs in found if runs}  # recipes may have data sets of their own
    titles, summaries = [], []
    for protocol in protocols or {"none": None}:
        rows = [(labels, runs) for labels, runs in found if not runs or _protocol(runs) == protocol]
        summaries.append(Summary(plan.head, rows, metrics))
        titles.append(f"{root.name}: {_what(plan)}, seeds {', '.join(map(str, plan.seeds))}, protocol {protocol}")
    pages = [f"{title}\n\n{made.markdown()}" for title, made in zip(titles, summaries, strict=True)]
    (root / "table.md").write_text("\n".join(pages), encoding="utf-8")
    (root / "table.csv").write_text("\n".join(made.csv() for made in summaries), encoding="utf-8")
    for title, made in zip(titles, summaries, strict=True):
        console().print(made.table(title))
    print(f"Written: {root / 'table.md'}, {root / 'table.csv'}")


def _protocol(runs: Sequence[Results]) -> str:
    return f"{runs[0].protocol['name']} ({runs[0].protocol['fingerprint']})"


def _what(plan: Plan) -> str:
    return ", ".join([f"{len(plan.recipes)} recipes"] * bool(plan.recipes) + list(plan.configs))


def make_parser() -> Parser:
    made = Parser(
        "sweep",
        "Train and test every combination of settings, each with every seed, and compare them in a table.",
        [
            "mde sweep encoders -j 2",
            "mde sweep --config quickstart --set model.encoder_lr=0.1,1 --set trainer.max_epochs=2 --seeds 0,1,2",
        ],
        "The same call goes on after an interruption: runs with a result are not repeated.",
    )
    made.add_argument(
        "sweep", nargs="?", help="a YAML file of recipes, config, set and seeds, or a shipped one: encoders, methods"
    )
    made.add_argument("--config", action="append", help="experiment or file, repeatable; in place of the sweep's")
    made.add_argument(
        "--set", action="append", default=[], metavar="KEY=V1,V2", help="values of a setting of `mde fit`, repeatable"
    )
    made.add_argument("--seeds", metavar="0,1,2", help="default 0, or the sweep's")
    made.add_argument("-j", "--jobs", type=int, default=1, help="runs side by side (default 1)")
    made.add_argument("--name", help="folder below the root; default: that of the sweep or the config")
    made.add_argument("--root", default="runs/sweeps", help="default runs/sweeps")
    made.add_argument("--metrics", default="abs_rel,rmse,delta1", help="columns; the first beside the constant's")
    made.add_argument("--dry-run", action="store_true", help="check the settings and list the runs")
    return made
