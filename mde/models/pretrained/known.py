"""The table of pretrained networks, `known.yaml`, and what a name of a network means."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml

from mde.errors import CheckpointError, nearest

__all__ = ["hub_or_folder", "known"]


@cache
def known() -> dict[str, dict[str, Any]]:
    """Entries by short name; `known.yaml` says what their keys mean."""
    return cast(dict[str, dict[str, Any]], yaml.safe_load(Path(__file__).with_name("known.yaml").read_text()))


def hub_or_folder(name: str) -> str:
    """Where the files of a network lie: a local folder, or a name on the Hugging Face hub.

    Args:
        name: a folder, a short name of `known`, or "owner/name" on the hub.

    Raises:
        CheckpointError: none of these.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if name in known():
        return str(known()[name]["hub"])
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/"):
        return name
    raise CheckpointError(
        f"no folder and no known pretrained network {name!r}",
        where="model.name",
        next_action=f"nearest names: {nearest(name, known())} (mde info pretrained lists all); "
        "or give a folder with config.json, or OWNER/NAME of the Hugging Face hub",
    )
