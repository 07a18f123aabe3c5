"""A backup on disk: a folder with its checksums, written aside and renamed.

`<folder>/<number>/` holds `arrays.npz` (NumPy, no pickle), `backup.json` (the rest) and
`SHA256SUMS`, which `sha256sum -c` reads too.
"""

import errno
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import warnings
import zipfile
from typing import Any, NamedTuple

import numpy as np

from rnnzoo import _checks
from rnnzoo._files import written_aside
from rnnzoo.training.backup import record

_ARRAYS, _REST, _SUMS = "arrays.npz", "backup.json", "SHA256SUMS"
_ASIDE = re.compile(r"\.\d+-\w+")


class Backup(NamedTuple):
    """What was read: arrays by name, and everything else as JSON gives it."""

    path: pathlib.Path
    arrays: dict[str, np.ndarray]
    rest: dict[str, Any]


class BrokenBackup(ValueError):
    """A folder that is no whole backup; the text says why."""


def write(folder: pathlib.Path, number: int, arrays: dict[str, np.ndarray], rest: dict) -> None:
    """Write backup `number` and remove all older ones but the last.

    Raises:
        OSError: it cannot be written; older backups are as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    contents = {_ARRAYS: packed.getbuffer(), _REST: json.dumps(rest, indent=1).encode()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    contents[_SUMS] = "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode()
    with written_aside(folder / str(number), overwrite=True) as aside:
        aside.mkdir()
        for name, content in contents.items():
            with open(aside / name, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(aside)
    _sync(folder)
    for path in _numbered(folder)[2:]:
        shutil.rmtree(path, ignore_errors=True)


def newest(folder: pathlib.Path, tidy: bool = True) -> Backup | None:
    """The newest backup in `folder` that is whole, None where there is no backup.

    A broken one is passed over with a warning. With `tidy` it gets the ending `.broken`, and
    what a killed process left is removed.

    Raises:
        ValueError: there are backups and all of them are broken.
    """
    for path in folder.glob(".*") if tidy and folder.is_dir() else ():
        if _ASIDE.fullmatch(path.name):  # left by a process that was killed while writing
            shutil.rmtree(path, ignore_errors=True)
    reasons = []
    for path in _numbered(folder):
        try:
            backup = read(path)
        except BrokenBackup as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            warnings.warn(f"{reason}. Going on from the older {path}.", stacklevel=2)
        for broken in _numbered(folder)[: len(reasons)] if tidy else ():
            broken.rename(broken.with_name(f"{broken.name}.broken"))
        return backup
    if reasons:
        raise ValueError(
            f"a folder of backups must hold at least one that is whole; received {str(folder)!r}: "
            f"{'; '.join(reasons)}. Remove or move the folder to start afresh."
        )
    return None


def set_aside(folder: pathlib.Path, number: int) -> None:
    """Give backup `number` the ending `.diverged`, if it is the newest and the next is whole."""
    path, *older = _numbered(folder) or [folder]
    if path.name != str(number) or not older:
        return
    try:
        read(older[0])
    except BrokenBackup:
        return
    aside = path.with_name(f"{path.name}.diverged")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def read(path: pathlib.Path) -> Backup:
    """The backup at `path`, its checksums compared; nothing in it is executed.

    Raises:
        BrokenBackup: something is missing, cut short or altered.
    """
    lines = _content(path, _SUMS).decode("latin1")
    sums = {name: digest for digest, name in re.findall(r"([0-9a-f]{64})  (\S+)\n", lines)}
    contents = {name: _content(path, name) for name in (_ARRAYS, _REST)}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != sums.get(name):
            raise BrokenBackup(
                f"the backup {path} is broken: {name} ({len(content)} bytes) has not the "
                f"checksum in {_SUMS}, so one of them was cut short or altered"
            )
    try:
        arrays, rest = _unpacked(contents[_ARRAYS]), json.loads(contents[_REST])
        record.check(arrays, rest)
    except Exception as error:  # what NumPy, zipfile and random raise for rubbish is any of them
        raise BrokenBackup(
            f"the backup {path} is broken: it was altered together with its checksums "
            f"({type(error).__name__}: {_checks.shown(str(error))})"
        ) from error
    return Backup(path, arrays, rest)


def _unpacked(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as entries:
        for entry in entries.infolist():
            # A packed entry may be a thousand times as large as the file.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(content):
                raise ValueError(f"{_ARRAYS} must hold arrays that are not compressed")
    with np.load(io.BytesIO(content), allow_pickle=False) as opened:
        arrays = {name: opened[name] for name in opened.files}
    for name, value in arrays.items():
        if not isinstance(value, np.ndarray):  # an entry that is no array comes as bytes
            raise ValueError(f"{_ARRAYS} must hold arrays only; {name} is none")
    return arrays


def _content(path: pathlib.Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        reason = errno.errorcode.get(error.errno, "") or error
        raise BrokenBackup(
            f"the backup {path} is broken: {name} cannot be read ({error.strerror or reason})"
        ) from error


def _numbered(folder: pathlib.Path) -> list[pathlib.Path]:
    """The backups in `folder`, the newest first."""
    if not folder.is_dir():
        return []
    paths = [path for path in folder.iterdir() if path.name.isdecimal() and path.is_dir()]
    return sorted(paths, key=lambda path: int(path.name), reverse=True)


def _sync(folder: pathlib.Path) -> None:
    """Make the names in `folder` outlive a loss of power, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
