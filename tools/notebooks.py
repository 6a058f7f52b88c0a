"""The notebooks: run from a clean kernel, brought back to what git keeps, put where the documentation shows them.

    python -m tools.notebooks --out docs/notebooks      run all, keep text and pictures there
    python -m tools.notebooks 01 04 --out DIR           only these
    python -m tools.notebooks --strip                   after an edit in Jupyter: take the outputs out again

Each runs in an empty folder of its own, where it may write what it likes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

__all__ = ["FOLDER", "execute", "notebooks", "place", "stripped"]

FOLDER = Path(__file__).parents[1] / "notebooks"

_KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "GOMP_SPINCOUNT": "3000",  # threads of several kernels must not wait spinning
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
    "NO_COLOR": "1",
    "PYTHONWARNINGS": 'ignore:IProgress not found,ignore:install "ipywidgets"',  # of tqdm and rich: no news here
}


def notebooks(names: Sequence[str] = ()) -> list[Path]:
    """The notebooks whose file name begins with one of `names`; all of them without names.

    Raises:
        SystemExit: a name fits none.
    """
    found = sorted(FOLDER.glob("*.ipynb"))
    for name in names:
        if not any(path.name.startswith(name) for path in found):
            sys.exit(f"no notebook begins with {name!r}. Next: one of {', '.join(path.stem for path in found)}")
    return [path for path in found if not names or path.name.startswith(tuple(names))]


def execute(path: Path, seconds: int = 600) -> NotebookNode:
    """The notebook with its outputs, run by a new kernel in an empty folder.

    Args:
        path: of the notebook, which is not changed.
        seconds: that the kernel may take to start, and each cell.

    Raises:
        CellExecutionError: a cell failed; the message has its source and traceback.
        RuntimeError: the kernel did not start, or died.
        TimeoutError: a cell took too long.
    """
    book = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            book,
            timeout=seconds,
            startup_timeout=seconds,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        )
        client.execute(env={**os.environ, **_SETTINGS})
    return book


def stripped(book: NotebookNode) -> NotebookNode:
    """What git keeps of a notebook: text and code, under ids that do not change from one save to the next."""
    cells = [dict(_cell(cell), id=f"cell-{place}") for place, cell in enumerate(book.cells)]
    metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    return nbformat.from_dict({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


def place(folder: Path) -> None:
    """Make `folder` hold one notebook for each: the one that was run there, as long as it has the same cells."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {path.name: stripped(nbformat.read(path, as_version=4)) for path in notebooks()}
    for path in folder.glob("*.ipynb"):
        if path.name not in kept:
            path.unlink()
    for name, book in kept.items():
        there = folder / name
        if not there.is_file() or stripped(nbformat.read(there, as_version=4)) != book:
            nbformat.write(book, there)


def main(argv: Sequence[str] | None = None) -> int:
    """Run or strip notebooks; 1 if one of them failed."""
    options = _parser().parse_args(argv)
    chosen = notebooks(options.names)
    if options.strip:
        for path in chosen:
            nbformat.write(stripped(nbformat.read(path, as_version=4)), path)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    return max([_run(path, options.out) for path in chosen], default=0)


def _run(path: Path, out: Path) -> int:
    start = time.perf_counter()
    try:
        nbformat.write(execute(path), out / path.name)
    except (CellExecutionError, RuntimeError, TimeoutError) as error:
        print(f"{path.stem}: failed\n{error}", file=sys.stderr)
        return 1
    print(f"{path.stem}: {time.perf_counter() - start:.0f} s")
    return 0


def _cell(cell: NotebookNode) -> dict[str, object]:
    kept = {"cell_type": cell.cell_type, "metadata": {}, "source": cell.source.rstrip()}
    return {**kept, "outputs": [], "execution_count": None} if cell.cell_type == "code" else kept


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description="Run the notebooks.")
    parser.add_argument("names", nargs="*", help="beginnings of file names, such as 01; default all")
    does = parser.add_mutually_exclusive_group(required=True)
    does.add_argument("--out", type=Path, help="folder for the notebooks with their outputs")
    does.add_argument("--strip", action="store_true", help="take the outputs out of the notebooks themselves")
    return parser


if __name__ == "__main__":
    sys.exit(main())
