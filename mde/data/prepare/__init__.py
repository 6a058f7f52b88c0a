"""Getting a data set and knowing what one has: ``mde prepare``.

`known` says where each data set is, `fetching` gets it (with `download` and `archives`), `verify` looks at what lies in
a folder, whoever put it there, and `manifest` writes that down. Only `verify` needs torch.
"""

from mde.data.prepare.catalog import KnownData, RemoteFile
from mde.data.prepare.download import DownloadError, Patience
from mde.data.prepare.files import DiskError
from mde.data.prepare.manifest import MANIFEST, Manifest, fingerprint_of, read_manifest, write_manifest

__all__ = [
    "MANIFEST",
    "DiskError",
    "DownloadError",
    "KnownData",
    "Manifest",
    "Patience",
    "RemoteFile",
    "fingerprint_of",
    "read_manifest",
    "write_manifest",
]
