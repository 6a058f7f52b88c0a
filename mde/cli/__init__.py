"""The command line. Help, version and wrong commands are answered here, without importing torch.

``mde`` and ``python cli.py`` both call `main`. Each command's module is imported when the command is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from mde import __version__
from mde.console import complain, tolerate_encoding

__all__ = ["main"]

TRAINER_COMMANDS = {
    "fit": "train a network (validates after each epoch, keeps the best checkpoint)",
    "validate": "score a checkpoint on the validation set",
    "test": "score a checkpoint on the test set, beside the constant predictor; writes results.json and a picture",
}

COMMANDS = {
    "predict": ("mde.cli.predict", "depth maps of your pictures by a trained network; or of a checkpoint's test set"),
    "make-data": ("mde.cli.make_data", "render a small data set in the layout of a real one, to try a recipe"),
    "prepare": ("mde.cli.prepare", "fetch a data set, or say how to get it, and verify what is there"),
    "doctor": ("mde.cli.doctor", "look for what is wrong with a data set; writes an HTML page"),
    "evaluate": ("mde.cli.evaluate", "score predictions that any tool wrote, or write them for KITTI's server"),
    "compare": (
        "mde.cli.compare",
        "put tested runs side by side, with intervals and paired tests; refuses what cannot be compared",
    ),
    "report": (
        "mde.cli.report",
        "one HTML page of tested runs that opens offline, or the figure of a paper",
    ),
    "sensitivity": (
        "mde.cli.sensitivity",
        "what each convention of evaluation does to a number, and which a published one used",
    ),
    "info": (
        "mde.cli.info",
        "what is installed and known here, and the licence of pretrained weights",
    ),
    "dashboard": (
        "mde.cli.dashboard",
        "make the workspace on W&B that compares methods; --dry-run prints it",
    ),
    "sweep": ("mde.cli.sweep", "train combinations of settings with several seeds, and compare them in a table"),
    "export": ("mde.cli.export", "write a trained network as one ONNX or torch.export file, compared with PyTorch"),
    "demo": ("mde.cli.demo", "a page in the browser: drop a picture, read its depth, compare two networks"),
    "shards": ("mde.cli.shards", "pack a data set into chunk files, for sets larger than one machine"),
    "completion": ("mde.cli.completion", "the script with which bash, zsh or fish completes commands at TAB"),
}

_HELP = """\
mde {version}: monocular depth estimation, from one RGB image to a depth map in metres

usage: mde COMMAND [options]        (the same as: python cli.py COMMAND [options])

commands:
{commands}
  experiments   list the experiments that ship with the library

examples:
  mde fit --config quickstart                        train on the embedded data set; needs no download
  mde fit --config nyu/densedepth --data.root DIR    a paper's recipe on your copy of NYU Depth v2
  mde fit --config quickstart --trainer.max_epochs 3 --model.optimizer.init_args.lr 1e-3
  mde fit --config quickstart --ckpt_path last       go on with the last run
  mde test --ckpt_path runs/quickstart
  mde fit --config quickstart --print_config         all settings, to copy and change
  mde compare runs/a runs/b                          tested runs in one table; report makes an HTML page
  mde sweep encoders --dry-run                       paper 3's encoder study: what it would run
  mde make-data kitti/raw DIR -n 20                  a rendered copy of a data set, to try its recipe
  mde doctor DIR                                     what is wrong with a data set, as an HTML page
  source <(mde completion bash)                      completes commands, options and experiments at TAB

{experiments}

`mde COMMAND --help` shows the options of a command, with examples.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after the program's name; None takes those of the process.

    Returns:
        0 on success, 1 when the work failed, 2 when the command was wrong, 130 when it was stopped by Ctrl-C, 141 when
        nobody reads the output any more.
    """
    tolerate_encoding()
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        if sys.stdout is not None:  # closed by `>&-`
            sys.stdout.flush()
    except KeyboardInterrupt:
        print("mde: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # such as `mde info | head -1`
        _leave_the_pipe()
        return 141
    return code


def _dispatch(words: list[str]) -> int:
    command = words[0] if words else "--help"
    if command in ("-h", "--help", "help"):
        print(_overview(), end="")
        return 0
    if command in ("-V", "--version"):
        print(f"mde {__version__}")
        return 0
    if command == "experiments":
        from mde.cli.experiments import names

        print("\n".join(names()))
        return 0
    if command in TRAINER_COMMANDS:
        from mde.cli.environment import prepare_process

        prepare_process()
        from mde.cli.train import run_trainer_command

        return run_trainer_command(words)
    if command in COMMANDS:
        return _run_command(command, words[1:])
    return _wrong_command(command)


def _run_command(command: str, words: Sequence[str]) -> int:
    from importlib import import_module

    from mde.errors import MdeError

    try:
        return int(import_module(COMMANDS[command][0]).run(words))
    except SystemExit as stop:  # of argparse
        return int(stop.code or 0)
    except BrokenPipeError:
        raise
    except (MdeError, OSError) as error:
        from mde.cli.problems import one_line

        complain(error if isinstance(error, MdeError) else one_line(error))
        return 2


def _leave_the_pipe() -> None:
    """What is still buffered goes nowhere, so that Python does not fail at it once more when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError:  # the output is no file
        sys.stdout = None  # type: ignore[assignment]


def _overview() -> str:
    from mde.cli.experiments import names

    described = TRAINER_COMMANDS | {name: text for name, (_, text) in COMMANDS.items()}
    commands = "\n".join(_filled(f"  {name:<13} {text}", 16) for name, text in described.items())
    experiments = _filled(f"experiments: {', '.join(names())}", 2)
    return _HELP.format(version=__version__, commands=commands, experiments=experiments)


def _filled(text: str, indent: int) -> str:
    """A paragraph in the width of the terminal, its other lines indented."""
    import shutil
    import textwrap

    width = min(shutil.get_terminal_size().columns, 120)
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True)


def _wrong_command(command: str) -> int:
    from mde.errors import nearest

    valid = [*TRAINER_COMMANDS, *COMMANDS, "experiments"]
    complain(f"unknown command {command!r}. Next: nearest: {nearest(command, valid)}; see mde --help")
    return 2
