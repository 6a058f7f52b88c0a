"""Every block of README.md, CONTRIBUTING.md and docs/*.md does what a reader would do with it."""

from __future__ import annotations

import pytest

from tests.docs.blocks import ALL, Block
from tests.docs.sandbox import RUN, Sandbox
from tests.docs.workshop import Workshop


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="module")
def sandbox(request: pytest.FixtureRequest, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("page"), workshop)


CASES = [
    pytest.param(block.page, block, id=block.place, marks=pytest.mark.xdist_group(f"docs: {block.page}"))
    for block in ALL
    if block.language in RUN
]


@pytest.mark.parametrize(("sandbox", "block"), CASES, indirect=["sandbox"], scope="module")
def test_it_runs(sandbox: Sandbox, block: Block) -> None:
    sandbox.run(block)
