"""Every block of README.md, CONTRIBUTING.md and docs/*.md does what a reader would do with it."""

from __future__ import annotations

import pytest

from tests.docs.blocks import ALL
from tests.docs.sandbox import RUN, Sandbox
from tests.docs.workshop import Workshop

PAGES = list(dict.fromkeys(block.page for block in ALL if block.language in RUN))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.mark.parametrize("page", PAGES)
def test_its_blocks_run_in_order(page: str, workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One test for a page: its blocks stand on each other, and on one worker."""
    sandbox = Sandbox(tmp_path_factory.mktemp("page"), workshop)
    for block in ALL:
        if block.page == page and block.language in RUN:
            try:
                sandbox.run(block)
            except BaseException as error:
                error.add_note(f"in the block at {block.place}")
                raise
