"""What a token is: a character, or a run of characters other than white space, or a newline."""

import re
from collections.abc import Iterable
from typing import Any

from rnnzoo._checks import shown

_WORDS = re.compile(r"\n|\S+")
_CHARACTER = re.compile(r".", re.DOTALL)
_UNFIT = re.compile(r"[\0\ud800-\udfff]")


def split(text: str, level: str) -> Iterable[str]:
    """The tokens of a text, one after the other."""
    return text if level == "character" else _WORDS.findall(text)


def word_place(text: str, token: str) -> int:
    """Where in a text a word first stands."""
    return next(found.start() for found in _WORDS.finditer(text) if found.group() == token)


def check_token(token: Any, index: int, level: str) -> None:
    """ValueError unless `token`, number `index` of a vocabulary, is a token of `level`."""
    pattern = _WORDS if level == "word" else _CHARACTER
    if not isinstance(token, str) or not pattern.fullmatch(token) or _UNFIT.search(token):
        raise ValueError(
            f"a token must be {'a word or a newline' if level == 'word' else 'one character'}, "
            f"without NUL or half a surrogate pair; received {shown(token)} as token {index}"
        )
