"""The notebooks: in git without outputs, of public names only, and each runs from a clean kernel."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from tools.notebooks import execute, main, notebooks, place, stripped

EACH = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)
MAGIC = "%matplotlib inline"
FILE = re.compile(r"^%%writefile (\w+\.py)\n")  # a cell that is a module of the reader's own
PUBLIC_ATTRIBUTES = ("__name__", "__init__", "_replace", "_asdict")  # of Python itself


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code(book: NotebookNode) -> list[str]:
    return [FILE.sub("", cell.source.replace(MAGIC, "")) for cell in book.cells if cell.cell_type == "code"]


def texts(outputs: list[NotebookNode]) -> Iterator[str]:
    for output in outputs:
        yield output.get("text", "")
        yield from (value for kind, value in output.get("data", {}).items() if kind.startswith("text/"))


@EACH
def test_git_keeps_a_notebook_without_what_a_run_leaves(path: Path):
    book = read(path)
    nbformat.validate(book)
    assert book == stripped(book), f"run: python -m tools.notebooks {path.stem} --strip"
    assert not re.search(r"(?<![\w.)\]])/(home|work|tmp|root|Users|usr|mnt|opt|var|data)\b", path.read_text())


@EACH
def test_a_notebook_begins_with_its_title_and_teaches_as_much_as_it_runs(path: Path):
    cells = read(path).cells
    assert cells[0].cell_type == "markdown"
    assert re.match(r"# \d\. \w", cells[0].source)
    kinds = [cell.cell_type for cell in cells]
    assert 2 * kinds.count("markdown") >= kinds.count("code")
    for source in code(read(path)):
        assert max(map(len, source.splitlines())) <= 120


@EACH
def test_every_import_is_a_public_name(path: Path):
    for source in code(read(path)):
        for node in ast.walk(ast.parse(source)):  # a shell escape or another magic is no Python
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert not node.level
                private = node.module.startswith("_") or "._" in node.module
                assert not private, node.module
                if node.module.split(".")[0] == "mde":
                    public = import_module(node.module).__all__
                    assert {name.name for name in node.names} <= set(public), (path.stem, ast.unparse(node))
            if isinstance(node, ast.Import):
                assert all(name.name.partition(".")[0] not in ("tests", "tools") for name in node.names)
                assert all(name.name == "mde" or not name.name.startswith("mde.") for name in node.names)
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_") or node.attr in PUBLIC_ATTRIBUTES, (path.stem, node.attr)


@EACH
def test_links_lead_to_notebooks_and_pages_that_exist(path: Path):
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", prose):
        if not target.startswith("http"):
            # the documentation shows notebooks from docs/notebooks/
            in_docs = path.parents[1] / "docs" / "notebooks" / target
            assert (path.parent / target).is_file() or in_docs.resolve().is_file(), target


def test_the_errors_of_the_papers_are_those_of_the_page_of_methods():
    (path,) = notebooks(["03"])
    prose = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    rows = [row.split("|") for row in (path.parents[1] / "docs" / "methods.md").read_text().splitlines()]
    measured = {(row[2].strip(" *"), row[5].strip()) for row in rows if len(row) == 8}
    shown = re.findall(r"(0\.\d{3})(?:\*\*)? / (0\.\d{3})", prose)
    assert len(shown) >= 15
    assert set(shown) <= measured, "docs/methods.md has other numbers now: bring notebook 3 up to date"


def test_a_part_of_the_readers_own_takes_30_lines():
    (path,) = notebooks(["09"])
    written = {found.group(1): cell.source for cell in read(path).cells if (found := FILE.match(cell.source))}
    assert set(written) == {"my_data.py", "my_loss.py", "my_method.py"}
    for name, source in written.items():
        lines = [line for line in FILE.sub("", source).splitlines() if line.strip()]
        assert len(lines) <= 30, name
        assert '"""' in source


@pytest.mark.slow
@EACH
def test_a_notebook_runs_from_a_clean_kernel_without_warnings(path: Path):
    book = execute(path)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [text for text in texts(outputs) if "Warning" in text]
    assert stripped(book) == read(path)


def _made(folder: Path, *sources: str) -> Path:
    cells = [nbformat.v4.new_markdown_cell("# A title"), *(nbformat.v4.new_code_cell(each) for each in sources)]
    path = folder / "made.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_a_run_starts_in_an_empty_folder_and_leaves_the_notebook_alone(tmp_path: Path):
    path = _made(tmp_path, "from pathlib import Path\nprint(list(Path().iterdir()))", "1 + 1")
    before = path.read_bytes()
    book = execute(path)
    assert book.cells[1].outputs[0].text == "[]\n"
    assert book.cells[2].outputs[0].data["text/plain"] == "2"
    assert path.read_bytes() == before
    clean = stripped(book)
    assert [cell.id for cell in clean.cells] == ["cell-0", "cell-1", "cell-2"]
    assert all(not cell.outputs and cell.execution_count is None for cell in clean.cells[1:])


@pytest.mark.slow
def test_a_cell_that_fails_is_shown_and_the_command_fails(tmp_path: Path, monkeypatch, capsys):
    path = _made(tmp_path, "depth = 1 / 0")
    monkeypatch.setattr("tools.notebooks.FOLDER", tmp_path)
    assert main(["--out", str(tmp_path / "out")]) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert not (tmp_path / "out" / path.name).exists()


def test_an_unknown_name_ends_with_those_that_there_are():
    with pytest.raises(SystemExit, match=r"no notebook begins with '99'.*01_quickstart"):
        main(["99", "--strip"])


def test_the_documentation_keeps_what_was_run_until_its_cells_change(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tools.notebooks.FOLDER", tmp_path)
    docs = tmp_path / "docs"
    path = _made(tmp_path, "x = 1\nx")
    place(docs)
    shown = docs / path.name
    assert shown.is_file()

    run = read(shown)
    run.cells[1].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "1"}, execution_count=1)]
    nbformat.write(run, shown)
    (docs / "gone.ipynb").write_text(shown.read_text())
    place(docs)
    assert read(shown).cells[1].outputs, "the same cells: what was run stays"
    assert not (docs / "gone.ipynb").exists()

    _made(tmp_path, "x = 2\nx")
    place(docs)
    assert read(shown).cells[1].source == "x = 2\nx"
    assert not read(shown).cells[1].outputs


def test_stripping_twice_changes_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("tools.notebooks.FOLDER", tmp_path)
    path = _made(tmp_path, "x = 1")
    book = read(path)
    book.metadata["kernelspec"] = {"name": "mine", "display_name": "mine"}
    nbformat.write(book, path)
    assert main(["--strip"]) == 0
    once = path.read_bytes()
    assert main(["--strip"]) == 0
    assert path.read_bytes() == once
    assert read(path).metadata.kernelspec.name == "python3"
