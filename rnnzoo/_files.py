"""Files: their sizes looked at before they are read, folders written aside and renamed."""

import contextlib
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator

# Bytes up to which what a file says of itself is believed without another look.
LARGE = 1 << 26


def check_members(archive: zipfile.ZipFile, most: int = LARGE, but: str | None = None) -> None:
    """ValueError where a member of a zip file, `but` one, would unpack to more than `most` bytes.

    A packed member may be a thousand times as large as the file.
    """
    for member in archive.infolist():
        if member.filename != but and member.file_size > most:
            raise ValueError(
                f"{member.filename} must take at most {most} bytes; received {member.file_size}"
            )


@contextlib.contextmanager
def written_aside(path: str | os.PathLike, overwrite: bool) -> Iterator[pathlib.Path]:
    """A place to write to, inside a new folder, which becomes `path` at the end.

    Where writing fails, `path` stays as it was.

    Raises:
        ValueError: a path that does not end in a version, a whole number.
        FileExistsError: the version exists and `overwrite` is False.
        OSError: the folder cannot be written.
    """
    path = pathlib.Path(path)
    if not path.name.isdigit():
        raise ValueError(
            "path must end in a version, a whole number, as in 'saved_models/my_model/1'; "
            f"received path={str(path)!r}"
        )
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"version {path.name} exists already; received path={str(path)!r}, overwrite=False. "
            "Choose another version or pass overwrite=True."
        )
    aside = folder_beside(path)
    try:
        written = aside / "model"
        yield written
        _put(written, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def folder_beside(path: pathlib.Path) -> pathlib.Path:
    """A new folder on the disk of `path`, in the nearest folder above it that exists."""
    above = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        return pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=above))
    except OSError as error:
        raise OSError(
            f"path must lie in a folder that can be written; received path={str(path)!r}, where "
            f"{str(above)!r} cannot ({error.strerror})"
        ) from error


def _put(written: pathlib.Path, path: pathlib.Path) -> None:
    """Rename `written` to `path`; where that fails, what was there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = written.with_name("before")
    if path.exists():
        path.rename(before)
    try:
        written.rename(path)
    except OSError:
        if before.exists():
            before.rename(path)
        raise
