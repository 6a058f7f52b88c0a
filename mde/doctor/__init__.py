"""Checks a data set as a suspicious expert would: files, pairing, units, geometry, leaks; ``mde doctor DIR``.

`examine` looks at a folder and returns an `Examination`: findings, each with all frames or files that it is about, and
what was measured. `docs/doctor.md` says what each finding means. Nothing is changed on disk. Names are imported when
first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mde.lazy import lazily

if TYPE_CHECKING:
    from mde.doctor.examination import Examination, examine
    from mde.doctor.findings import CHECKS, Finding
    from mde.doctor.page import write_page
    from mde.doctor.record import to_dict, write_json

__all__ = ["CHECKS", "SAMPLE", "Examination", "Finding", "examine", "to_dict", "write_json", "write_page"]

SAMPLE = 200
"""Frames of each split that are decoded unless all are asked for."""

_NAMES = {
    "examination": ("Examination", "examine"),
    "findings": ("CHECKS", "Finding"),
    "page": ("write_page",),
    "record": ("to_dict", "write_json"),
}

__getattr__, __dir__ = lazily(__name__, _NAMES)
