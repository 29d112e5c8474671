"""The FileIO of the exporter's tables: pyarrow's, with files on a local folder flushed to disk before they are named.

A catalog row that survives a power cut must not point at a metadata file that didn't: so a local file is fsynced, and
its folder too, before `close` returns. File systems (connection pools) are shared between all FileIO objects of the
process, because pyiceberg makes a new FileIO at every load of a table. Never imported by a broker process.
"""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

from pyarrow.fs import FileSystem
from pyiceberg.io import OutputStream
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

FSYNC_PROPERTY = "neve.fsync"
"""`never` leaves flushing to the operating system; anything else flushes."""

_FILE_SYSTEMS: dict[tuple[str, str | None, tuple[tuple[str, str], ...]], FileSystem] = {}
_LOCK = threading.Lock()


class DurableFile(io.BufferedWriter):
    """A new local file whose bytes and name are on disk when `close` returns."""

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path = path
        _make_folder(path.parent)
        super().__init__(io.FileIO(path, "w" if overwrite else "x"))

    def close(self) -> None:
        """Flush, fsync file and folder, close."""
        if self.closed:
            return
        try:
            self.flush()
            os.fsync(self.fileno())
        finally:
            super().close()
        _fsync_folder(self._path.parent)


class DurableOutput(PyArrowFile):
    """A local output whose streams are durable on close."""

    def create(self, overwrite: bool = False) -> OutputStream:
        """Open a new file. FileExistsError where it exists and `overwrite` is False."""
        return DurableFile(Path(self._path), overwrite=overwrite)


class DurableFileIO(PyArrowFileIO):
    """pyarrow FileIO with durable local outputs and shared file systems."""

    def _initialize_fs(self, scheme: str, netloc: str | None = None) -> FileSystem:
        settings = tuple(sorted((key, str(value)) for key, value in self.properties.items() if key.startswith("s3.")))
        key = (scheme, netloc, settings)
        with _LOCK:
            if key not in _FILE_SYSTEMS:
                _FILE_SYSTEMS[key] = super()._initialize_fs(scheme, netloc)
            return _FILE_SYSTEMS[key]

    def new_output(self, location: str) -> PyArrowFile:
        """A file to write at `location`; durable on close where it is local."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        if scheme != "file" or self.properties.get(FSYNC_PROPERTY) == "never":
            return super().new_output(location)
        return DurableOutput(fs=self.fs_by_scheme(scheme, netloc), location=location, path=path)


def _make_folder(folder: Path) -> None:
    """Make a folder with its parents, each name flushed to disk."""
    missing: list[Path] = []
    at = folder
    while not at.exists():
        missing.append(at)
        at = at.parent
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        _fsync_folder(one.parent)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
