"""Text that is written a few tokens at a time, sent in pieces of whole characters."""

from collections.abc import Sequence
from typing import NamedTuple

from rnnzoo.data.text import Vocabulary
from rnnzoo.data.tokens import TextVocabulary

# What tokenizers write in the place of bytes that are no character, or not yet.
_BROKEN = "\ufffd"
# The bytes of a character that is not whole.
_MOST_HELD = 3
# Tokens that have not become whole characters by then never will.
_MOST_TOKENS = 256


class Written(NamedTuple):
    """The last tokens of a text, the first of which begins a character; `sent` of its text."""

    tokens: tuple[int, ...] = ()
    sent: int = 0


def next_piece(
    vocabulary: TextVocabulary, written: Written, tokens: Sequence[int]
) -> tuple[str, Written]:
    """The text that `tokens` add to what was written, and what then is written.

    Joined, the pieces are the text of all tokens: bytes that may still become a character are
    held back until they do, and a space between words goes with the second.
    """
    new = tuple(map(int, tokens))
    known = written.tokens + new
    text = vocabulary.decode(known)
    held = _held(vocabulary, text) if len(known) < _MOST_TOKENS else 0
    piece = text[written.sent : len(text) - held]
    if held:
        return piece, Written(known, len(text) - held)
    # Where the new tokens begin a character too, the older ones are needed no more.
    if written.sent == len(vocabulary.decode(written.tokens)):
        known = new
    return piece, Written(known, len(vocabulary.decode(known)))


def _held(vocabulary: TextVocabulary, text: str) -> int:
    """How many marks of broken bytes at the end of a text may still become a character."""
    if isinstance(vocabulary, Vocabulary):  # has whole characters only, this one perhaps
        return 0
    return min(_MOST_HELD, len(text) - len(text.rstrip(_BROKEN)))
