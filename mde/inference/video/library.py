"""PyAV, which brings FFmpeg along: read and written here are time stamps, rotations and sound, which OpenCV drops."""

from __future__ import annotations

from typing import Any

from mde.errors import ConfigError

__all__ = ["library"]


def library() -> Any:
    """The module ``av``.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        import av
    except ImportError as error:
        hint = "pip install 'mde[video]'"
        raise ConfigError("videos need the extra video, which brings PyAV", next_action=hint) from error
    av.logging.set_level(av.logging.PANIC)  # what goes wrong is said in our words
    return av
