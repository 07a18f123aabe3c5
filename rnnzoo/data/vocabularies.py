"""What may stand for the tokens of an input: their number, a vocabulary, a tokenizer of others."""

from typing import Any

from rnnzoo._checks import positive_integer, refuse
from rnnzoo.data.text import Vocabulary
from rnnzoo.data.tokenizer import Tokenizer
from rnnzoo.data.tokens import TextVocabulary


def size_and_vocabulary(
    name: str, given: int | TextVocabulary | None
) -> tuple[int | None, TextVocabulary | None]:
    """The number of tokens that argument `name` says, and the vocabulary where it is one.

    Raises:
        ValueError: neither a number of tokens, nor a vocabulary, nor None.
    """
    if given is None:
        return None, None
    try:
        return positive_integer(name, given), None
    except ValueError:
        rule = "a number of tokens, an integer of at least 1, or "
        known = as_vocabulary(name, given, rule)
    return positive_integer(f"the number of tokens of {name}", len(known)), known


def as_vocabulary(name: str, given: Any, rule: str = "") -> TextVocabulary:
    """`given` as a vocabulary; ValueError, of a longer `rule`, where it is none."""
    if isinstance(given, (Vocabulary, Tokenizer)):
        return given
    try:
        return Tokenizer(given)
    except ValueError:
        raise refuse(
            name,
            f"{rule}a rnnzoo.data.Vocabulary, or a tokenizer with encode, decode and a size",
            given,
        ) from None
