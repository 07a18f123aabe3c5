"""Sequences from text and CSV files, with errors that name line and column."""

import csv
import gzip
import io
import itertools
import math
import os
import re
import zlib
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import shown


def read_text(path: str | os.PathLike) -> str:
    """The text of a file in UTF-8, unzipped where its name ends in `.gz`.

    Args:
        path: the file.

    Raises:
        ValueError: a file that is not UTF-8 or not gzip; the text names line and column.
        OSError: a file that cannot be read.

    Example:

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "poem.txt")
    >>> _ = path.write_bytes(b"first\\nsec\\xffnd")
    >>> read_text(path)
    Traceback (most recent call last):
    ValueError: ...poem.txt, line 2, column 4: text must be UTF-8; received byte 0xff
    """
    path = _checks.path("path", path)
    content = path.read_bytes()
    if str(path).endswith(".gz"):
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} must be a gzip file; received: {error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A byte order mark may have been taken off what the error counts in.
        bad = len(content) - len(error.object) + error.start
        line = content.count(b"\n", 0, bad) + 1
        column = bad - content.rfind(b"\n", 0, bad)
        raise ValueError(
            f"{path}, line {line}, column {column}: text must be UTF-8; "
            f"received byte {content[bad]:#04x}"
        ) from error


def read_bytes(path: str | os.PathLike, most: int = 1 << 26) -> bytes:
    """The bytes of a file; ValueError where there are more than `most`."""
    with open(path, "rb") as file:
        large = os.fstat(file.fileno()).st_size > most
        written = b"" if large else file.read(most + 1)  # a device tells no size
    if large or len(written) > most:
        raise ValueError(
            f"a file must be small enough to be read whole; received more than {most} bytes"
        )
    return written


# What float32 can hold, and no infinity and NaN.
_LARGEST = float(np.finfo("float32").max)


@dataclass
class Table:
    """Sequences read from a CSV file.

    Attributes:
        features: names of the feature columns.
        names: the sequences' names, in the order of the file.
        sequences: for each an array `(steps, features)` float32.
        labels: for each its label, or an empty list where the file has no labels.
    """

    features: list[str]
    names: list[str] = field(default_factory=list)
    sequences: list[np.ndarray] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


def read_csv(
    path: str | os.PathLike, *, label: bool = False, allowed: Collection[float] | None = None
) -> Table:
    """The sequences of a CSV file with the columns `sequence, step, [label,] features...`.

    The first line names the columns. Rows of a sequence stand together; `step` rises from row
    to row; `label` is the same in all of them. Features are finite numbers. A file whose name
    ends in `.gz` is unzipped.

    Args:
        path: the file, UTF-8.
        label: whether the third column is `label`.
        allowed: when given, the values that features may have.

    Returns:
        A `Table`.

    Raises:
        ValueError: a file that breaks these rules; the text names line and column.
        OSError: a file that cannot be read.

    Example:

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "two.csv")
    >>> _ = path.write_text("sequence,step,label,x\\na,0,up,1.5\\na,1,up,2\\nb,0,down,-1\\n")
    >>> table = read_csv(path, label=True)
    >>> table.labels, [len(s) for s in table.sequences]
    (['up', 'down'], [2, 1])
    """
    _checks.flag("label", label)
    if allowed is not None:
        allowed = _numbers(allowed)
    lines = io.StringIO(read_text(path), newline="")
    try:
        return _Reader(str(path), csv.reader(lines), label, allowed).table()
    except csv.Error as error:
        raise ValueError(f"{path} must be a CSV file; received: {error}") from error


def _numbers(allowed: Any) -> list[float]:
    values = _checks.array("allowed", list(allowed) if isinstance(allowed, Set) else allowed)
    if values.ndim != 1 or values.dtype.kind not in "iufb" or not len(values):
        raise _checks.refuse("allowed", "a collection of at least one number", allowed)
    return values.tolist()


class _Reader:
    def __init__(self, path: str, rows: Any, label: bool, allowed: Collection[float] | None):
        self.path, self.rows, self.allowed = path, rows, allowed
        self.fixed = ["sequence", "step", "label"] if label else ["sequence", "step"]
        self.header = [name.strip() for name in next(rows, [])]
        if self.header[: len(self.fixed)] != self.fixed or len(self.header) == len(self.fixed):
            raise ValueError(
                f"{path}, line 1: columns must be {', '.join(self.fixed)} and at least one "
                f"feature; received {shown(','.join(self.header))}"
            )

    def table(self) -> Table:
        table, seen = Table(features=self.header[len(self.fixed) :]), set()
        for name, rows in itertools.groupby(self._rows(), key=lambda row: row[0]):
            if name in seen:
                self._fail(0, "rows of a sequence must stand together", name)
            seen.add(name)
            table.names.append(name)
            steps, label, last = [], None, -math.inf
            for row in rows:
                last = self._rising(row[1], last)
                if "label" in self.fixed:
                    label = self._same_label(row[2], label)
                steps.append([self._feature(row[i], i) for i in range(len(self.fixed), len(row))])
            table.sequences.append(np.array(steps, "float32"))
            if label is not None:
                table.labels.append(label)
        if not table.sequences:
            raise ValueError(f"{self.path} must have at least one row under its header")
        return table

    def _rows(self) -> Iterator[list[str]]:
        for row in filter(None, self.rows):
            if len(row) != len(self.header):
                column = min(len(row), len(self.header) - 1)
                self._fail(column, f"rows must have {len(self.header)} columns", len(row))
            yield [value.strip() for value in row]

    def _rising(self, text: str, last: float) -> float:
        step = self._number(text, 1)
        if step <= last:
            self._fail(1, f"must be more than the step before, {last:g}", text)
        return step

    def _same_label(self, text: str, label: str | None) -> str:
        if not text or (label is not None and text != label):
            rule = "must not be empty" if label is None else f"must stay {label!r} in a sequence"
            self._fail(2, rule, text)
        return text

    def _feature(self, text: str, column: int) -> float:
        value = self._number(text, column)
        if abs(value) > _LARGEST:
            self._fail(column, f"must be within {_LARGEST:g}, what float32 holds", text)
        if self.allowed is not None and value not in self.allowed:
            listed = ", ".join(f"{v:g}" for v in self.allowed)
            self._fail(column, f"must be one of {listed}, the values allowed", text)
        return value

    def _number(self, text: str, column: int) -> float:
        try:
            value = math.nan if "_" in text else float(text)  # Python reads 1_0 as 10
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            self._fail(column, "must be a finite number", text)
        return value

    def _fail(self, column: int, rule: str, received: object) -> NoReturn:
        raise ValueError(
            f"{self.path}, line {self.rows.line_num}, column {column + 1} "
            f"({self.header[column]}): {rule}; received {shown(received)}"
        )


def read_pairs(path: str | os.PathLike) -> tuple[list[str], list[str]]:
    """Sources and targets of a file with one `source <tab> target` on each line.

    Empty lines are passed over. A file whose name ends in `.gz` is unzipped.

    Args:
        path: the file, UTF-8.

    Raises:
        ValueError: a line that is no pair, or has an empty side; the text names the line.
        OSError: a file that cannot be read.

    Example:

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "pairs.tsv")
    >>> _ = path.write_text("cat\\tK AE T\\ndog\\tD AO G\\n")
    >>> read_pairs(path)
    (['cat', 'dog'], ['K AE T', 'D AO G'])
    """
    sources, targets = [], []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        sides = [side.strip() for side in line.split("\t")]
        if len(sides) != 2 or not all(sides):
            raise ValueError(
                f"{path}, line {number}: must be a source, a tab and a target; "
                f"received {shown(line)}"
            )
        sources.append(sides[0])
        targets.append(sides[1])
    if not sources:
        raise ValueError(f"{path} must hold at least one pair; received none")
    return sources, targets


def _is_conllu(columns: list[str]) -> bool:
    return len(columns) == 10 and re.fullmatch(r"\d+([-.]\d+)?", columns[0]) is not None


def read_tagged(path: str | os.PathLike) -> tuple[list[list[str]], list[list[str]]]:
    """Words and their tags, a list of each for every sentence of a file.

    The file is CoNLL-U, whose universal parts of speech are the tags (parts that are no words of
    their own, numbered 3-4 or 3.1, are passed over), or has lines of a word, a tab and its tag,
    with an empty line between sentences. A file whose name ends in `.gz` is unzipped.

    Args:
        path: the file, UTF-8.

    Raises:
        ValueError: a line that is neither, or has no word or tag; the text names the line.
        OSError: a file that cannot be read.

    Example:

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "tagged.tsv")
    >>> _ = path.write_text("a\\tDET\\ncat\\tNOUN\\n\\nstop\\tVERB\\n")
    >>> read_tagged(path)
    ([['a', 'cat'], ['stop']], [['DET', 'NOUN'], ['VERB']])
    """
    sentences: list[list[tuple[str, str]]] = [[]]
    for number, line in enumerate(read_text(path).split("\n"), 1):
        columns = [column.strip() for column in line.split("\t")]
        if not line.strip():
            sentences.append([])
        elif line.startswith("# ") or len(columns) == 1 and line.startswith("#"):
            continue
        elif not all(columns) or len(columns) != 2 and not _is_conllu(columns):
            raise ValueError(
                f"{path}, line {number}: must be a word, a tab and its tag, or the 10 columns of "
                f"CoNLL-U; received {shown(line)}"
            )
        elif len(columns) == 2:
            sentences[-1].append((columns[0], columns[1]))
        elif columns[0].isdigit():
            sentences[-1].append((columns[1], columns[3]))
    words, tags = ([[pair[i] for pair in one] for one in sentences if one] for i in (0, 1))
    if not words:
        raise ValueError(f"{path} must hold at least one sentence; received none")
    return words, tags
