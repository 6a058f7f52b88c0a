"""Imports point one way (docs/architecture.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import mde

ROOT = Path(mde.__file__).parent
LAYERS = [
    {"errors", "console", "lazy"},
    {"types", "rebuild"},
    {"masking", "geometry", "resizing"},
    {"codecs", "alignment", "crf"},
    {"protocol"},
    {"losses", "metrics"},
    {"data", "models"},
    {"inference", "report", "doctor"},
    {"callbacks", "demo"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _imports(path: Path) -> set[str]:
    """Parts of the package that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mde."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.module == "mde":
            found.update(alias.name for alias in node.names if alias.name in LEVEL)
        elif isinstance(node, ast.Import):
            found.update(a.name.split(".")[1] for a in node.names if a.name.startswith("mde."))
    return found


def test_every_file_has_a_layer_and_imports_only_lower_ones():
    wrong = []
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        assert part in LEVEL, f"{part} has no layer: add it to docs/architecture.md and here"
        wrong += [
            f"{path.relative_to(ROOT)} imports {other}"
            for other in _imports(path)
            if other != part and LEVEL[other] >= LEVEL[part]
        ]
    assert not wrong


def test_one_papers_file_never_imports_another():
    shared = {
        "as_predicted",
        "base",
        "checkpoint",
        "encoders",
        "decoders",
        "fusion",
        "guard",
        "heads",
        "inputs",
        "layers",
        "modes",
        "schedules",
        "supervised",
    }
    for path in (ROOT / "models").glob("*.py"):
        if path.stem in shared | {"weights", "__init__"}:
            continue
        modules = {
            n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module
        }
        used = {m.removeprefix("mde.models.") for m in modules if m.startswith("mde.models.")}
        assert used <= shared, f"{path.name} imports {used - shared}"
