"""Small rendered data sets in the true on-disk layouts, quirks included: for trying a recipe before a download.

``mde make-data LAYOUT DIR -n N`` and the tests use the same writers. A family of layouts is one file here. A writer
asks a `FrameSource` for pictures with exact depth, and writes them as the real data set would have them: bit depth,
holes, sparse lidar, names, list files. `mark` leaves a note in the folder, so that nobody takes it for the real thing.
"""

from mde.data.writers.source import (
    MARKER,
    FrameSource,
    Rendered,
    SourceFrame,
    Writer,
    is_made,
    mark,
    parts_of,
    rendered,
    smooth,
)

__all__ = [
    "MARKER",
    "FrameSource",
    "Rendered",
    "SourceFrame",
    "Writer",
    "is_made",
    "mark",
    "parts_of",
    "rendered",
    "smooth",
]
