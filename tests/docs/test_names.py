"""The documentation names what exists."""

from __future__ import annotations

import re

from mde.cli import COMMANDS, TRAINER_COMMANDS
from mde.cli.experiments import names
from mde.data.encodings import ENCODINGS
from mde.data.layouts import layouts
from mde.protocol import PROTOCOLS
from tests.docs.blocks import PAGES, ROOT


def test_the_page_of_the_data_sets_lists_every_layout_and_encoding_as_it_is():
    page = (ROOT / "docs" / "data.md").read_text()
    for layout in layouts().values():
        configs = ", ".join(f"`{name}`" for name in layout.configs) or "-"
        assert f"| `{layout.name}` | {layout.summary} | {configs} |" in page
    for name, encoding in ENCODINGS.items():
        assert f"| `{name}` |" in page
        assert encoding.source in page


def test_experiments_that_pages_name_exist():
    for page in PAGES:
        used = re.findall(r"--config ([a-z]\w*(?:/\w+)?)(?![\w./])", page.read_text())
        assert set(used) <= set(names()), page


def test_commands_that_pages_name_exist():
    known = {*TRAINER_COMMANDS, *COMMANDS, "experiments"}
    for page in PAGES:
        used = re.findall(r"(?:^|`)mde ([a-z][\w-]*)", page.read_text(), flags=re.MULTILINE)
        assert set(used) <= known, page


def test_the_page_of_evaluation_names_every_protocol_of_others():
    page = (ROOT / "docs" / "evaluation.md").read_text()
    table = page[page.index("| protocol | convention |") : page.index("Each is checked")]
    named = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:] if row))
    own = {"none", "rooms", "street", "kinect", "synthia_80", "unreal_80", "unreal_20", "kitti_official"}
    assert len(named) == len(set(named))
    assert set(named) == set(PROTOCOLS) - own
