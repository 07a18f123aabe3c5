"""What a token is, and what may stand for the tokens of an input: their number or a vocabulary."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rnnzoo._checks import shown

_WORDS = re.compile(r"\n|\S+")
_CHARACTER = re.compile(r".", re.DOTALL)
_UNFIT = re.compile(r"[\0\ud800-\udfff]")


@runtime_checkable
class TextVocabulary(Protocol):
    """Whatever turns text into token ids and back: a `Vocabulary`, or a tokenizer of others."""

    def encode(self, text: str) -> Sequence[int]:
        """The token ids of a text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids."""

    def __len__(self) -> int:
        """The number of ids, which are 0 to one less."""


def encode_words(vocabulary: TextVocabulary, words: Sequence[str]) -> np.ndarray:
    """The ids of a list of words, one for each, or several: `(words,)` or `(words, most)` int32.

    A vocabulary of words gives one for each word. Any other gives several, and -1 after them.

    Raises:
        ValueError: a word that has a token not in the vocabulary, or that is not one word for a
            vocabulary of words; its number is named.
    """
    rows, whole = [], getattr(vocabulary, "level", None) == "word"
    for index, word in enumerate(words):
        try:
            ids = np.asarray(vocabulary.encode(word), np.int32)
        except ValueError as error:
            raise ValueError(f"word {index}, {shown(word)}: {error}") from error
        if whole and len(ids) != 1:
            raise ValueError(
                f"each must be one word for a vocabulary of words; received {shown(word)} as "
                f"word {index}"
            )
        rows.append(ids)
    return np.concatenate(rows) if whole else below_one_another(rows)


def below_one_another(rows: Sequence[np.ndarray], width: int = 1) -> np.ndarray:
    """Rows of ids as one array `(rows, most)` int32, at least `width` wide, -1 after their ends."""
    found = np.full((len(rows), max(width, *map(len, rows))), -1, np.int32)
    for row, ids in zip(found, rows):
        row[: len(ids)] = ids
    return found


def split(text: str, level: str) -> Iterable[str]:
    """The tokens of a text, one after the other."""
    return text if level == "character" else _WORDS.findall(text)


def word_place(text: str, token: str) -> int:
    """Where in a text a word first stands."""
    return next(found.start() for found in _WORDS.finditer(text) if found.group() == token)


def check_text(text: str) -> None:
    """ValueError where `text` holds what can be in no token."""
    found = _UNFIT.search(text)
    if found:
        raise ValueError(
            "text must be without NUL or half a surrogate pair; "
            f"received {found.group()!r} at position {found.start()}"
        )


def check_token(token: Any, index: int, level: str) -> None:
    """ValueError unless `token`, number `index` of a vocabulary, is a token of `level`."""
    pattern, kind = _CHARACTER, "one character"
    if level == "word":
        pattern, kind = _WORDS, "a word or a newline"
    if not isinstance(token, str) or not pattern.fullmatch(token) or _UNFIT.search(token):
        raise ValueError(
            f"each of tokens must be {kind}, without NUL or half a surrogate pair; "
            f"received {shown(token)} as token {index}"
        )
