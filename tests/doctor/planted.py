"""What a test says about the findings of an examination."""

from __future__ import annotations

from collections.abc import Iterable

from mde.doctor import Examination, Finding


def serious(made: Examination) -> set[str]:
    return {found.code for found in made.findings if found.severity != "info"}


def only(made: Examination, code: str, severity: str = "error") -> Finding:
    """The one finding that is no info."""
    assert serious(made) == {code}, [(f.code, f.message) for f in made.findings]
    (found,) = [f for f in made.findings if f.code == code]
    assert found.severity == severity
    assert found.count == len(found.items)
    assert found.next_action
    return found


def ids(numbers: Iterable[int], split: str = "train") -> set[str]:
    return {f"{split}/{number:06d}" for number in numbers}


def noted(made: Examination, code: str) -> Finding:
    """An info, in a set without anything worse."""
    assert serious(made) == set()
    (found,) = [f for f in made.findings if f.code == code]
    return found
