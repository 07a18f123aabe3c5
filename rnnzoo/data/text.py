"""Vocabularies: text to token ids and back, by characters or by words."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import flag, one_of, positive_integer, shown
from rnnzoo.data.files import read_bytes
from rnnzoo.data.tokenizer import Tokenizer, learn_byte_pairs
from rnnzoo.data.tokens import check_text, check_token, split, word_place

UNKNOWN = "[UNK]"

_LEVELS = ("character", "word")
_PIECES = "byte_pair"
# Characters of a text that are looked up one by one.
_FEW = 100
_FORMAT = "rnnzoo vocabulary 1"
# No vocabulary comes near it; what is larger is another file, and not worth the memory.
_MOST_BYTES = 1 << 28


@keras.saving.register_keras_serializable(package="rnnzoo")
class Vocabulary:
    """Tokens and their ids: `encode` text to ids, `decode` ids to text.

    With level "character" every character is a token, and decoding gives back the text.
    With level "word" tokens are the runs of characters other than white space, and each
    newline; decoding puts one space between words.

    The ids are those of a `keras.layers.StringLookup` (see `lookup`), which needs TensorFlow on
    every backend; it is made at the first `encode`.

    Args:
        tokens: the tokens in the order of their ids, without the unknown one.
        level: "character" or "word".
        unknown: whether id 0 is the token "[UNK]", which stands for all others. Without it,
            text that holds another token is an error.

    Raises:
        ValueError: no token, tokens that come twice, are empty, or are no tokens of the level.

    Example:

    >>> vocabulary = Vocabulary.from_text("abracadabra")
    >>> vocabulary.tokens
    ('a', 'b', 'r', 'c', 'd')
    >>> vocabulary.encode("bad")
    array([1, 0, 4], dtype=int32)
    >>> vocabulary.decode([1, 0, 4])
    'bad'
    """

    def __init__(self, tokens: Iterable[str], level: str = "character", unknown: bool = False):
        self.level = one_of("level", level, _LEVELS)
        self.unknown = flag("unknown", unknown)
        tokens = list(tokens) if isinstance(tokens, str) else _checks.items("tokens", tokens, "str")
        for i, token in enumerate(tokens):
            check_token(token, i, level)
        if len(set(tokens)) < len(tokens):
            twice = Counter(tokens).most_common(1)[0][0]
            raise ValueError(f"tokens must all differ; received {twice!r} more than once")
        if unknown and UNKNOWN in tokens:
            raise ValueError(
                f"with unknown=True, tokens must not hold {UNKNOWN!r}, which is id 0; "
                f"received it as token {tokens.index(UNKNOWN)}"
            )
        self.tokens = (UNKNOWN, *tokens) if unknown else tuple(tokens)
        if not self.tokens:
            raise ValueError("tokens must hold at least one token; received none")

    @classmethod
    def from_text(
        cls,
        text: str,
        level: str = "character",
        max_size: int | None = None,
        unknown: bool = False,
    ) -> "Vocabulary | Tokenizer":
        """The vocabulary of a text, the most frequent token first, ties in sorted order.

        With level "byte_pair" it is a `rnnzoo.data.Tokenizer` of pieces of words, as long as they
        are frequent, learnt by the package `tokenizers` (`pip install 'rnnzoo[tokenizers]'`;
        Sennrich et al., 2016). Its first tokens are the 256 bytes: it has ids for any text.

        Args:
            text: the text.
            level: "character", "word" or "byte_pair".
            max_size: the most tokens to keep, the unknown one included; rarer ones become
                unknown, so it needs `unknown=True` where the text has more. None: all. Of
                byte pairs the number of pieces, at least 256, which must be given.
            unknown: whether id 0 stands for all tokens that are not in the vocabulary.

        Raises:
            ValueError: an empty text, or more tokens than `max_size` without `unknown`; byte
                pairs with `unknown`, or without a size.
            ImportError: byte pairs without the package `tokenizers`.
        """
        one_of("level", level, (*_LEVELS, _PIECES))
        flag("unknown", unknown)
        if level == _PIECES:
            return _byte_pairs(text, max_size, unknown)
        counts = Counter() if not isinstance(text, str) else Counter(split(text, level))
        if not counts:
            raise ValueError(
                f"text must be a str with at least one {level}; received {shown(text)}"
            )
        check_text(text)
        if unknown:
            counts.pop(UNKNOWN, None)
        tokens = sorted(counts, key=lambda token: (-counts[token], token))
        if max_size is not None:
            room = positive_integer("max_size", max_size) - unknown
            if len(tokens) > room and not unknown:
                raise ValueError(
                    f"without unknown=True, max_size must be at least the {len(tokens)} "
                    f"different tokens of the text; received max_size={max_size}"
                )
            tokens = tokens[:room]
        return cls(tokens, level, unknown)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make this vocabulary again."""
        tokens = list(self.tokens[self.unknown :])
        return {"tokens": tokens, "level": self.level, "unknown": self.unknown}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Vocabulary":
        """The vocabulary that `get_config` described.

        Raises:
            ValueError: a dict with other keys, or what is no dict.
        """
        if not isinstance(config, dict) or set(config) != {"tokens", "level", "unknown"}:
            raise ValueError(
                "config must be a dict with the keys tokens, level and unknown; "
                f"received config={shown(config)}"
            )
        return cls(**config)

    def __len__(self) -> int:
        """Number of ids, the unknown token's included."""
        return len(self.tokens)

    def __repr__(self) -> str:
        """A short description."""
        return f"<Vocabulary of {len(self)} tokens, level={self.level!r}, unknown={self.unknown}>"

    @cached_property
    def lookup(self) -> keras.layers.StringLookup:
        """The `keras.layers.StringLookup` layer that turns tokens into ids.

        Raises:
            ImportError: TensorFlow is not installed.
        """
        try:
            return keras.layers.StringLookup(
                vocabulary=list(self.tokens[self.unknown :]),
                num_oov_indices=int(self.unknown),
                oov_token=UNKNOWN if self.unknown else "",
            )
        except ImportError as error:
            raise ImportError(
                "Vocabulary.encode must have TensorFlow, which keras.layers.StringLookup needs "
                "on every backend; received no such package (pip install tensorflow-cpu)"
            ) from error

    def encode(self, text: str) -> np.ndarray:
        """The token ids of a text, `(tokens,)` int32.

        Raises:
            ValueError: a token that is not in the vocabulary, which has no unknown token.
        """
        if not isinstance(text, str):
            raise ValueError(f"text must be a str; received {shown(text)}")
        if not text:
            return np.zeros(0, np.int32)
        return self._characters(text) if self.level == "character" else self._words(text)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of token ids `(tokens,)`; the unknown token reads "[UNK]".

        Raises:
            ValueError: another rank, ids that are no integers or out of range.
        """
        tokens = [self.tokens[i] for i in _checks.token_ids("ids", ids, len(self)).tolist()]
        if self.level == "character":
            return "".join(tokens)
        return " ".join(tokens).replace(" \n", "\n").replace("\n ", "\n")

    def save(self, path: str | os.PathLike) -> None:
        """Writes the vocabulary as JSON; the file is whole or not there."""
        path = _checks.path("path", path)
        content = {"format": _FORMAT, **self.get_config()}
        aside = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            aside.write_text(json.dumps(content, indent=0) + "\n", encoding="utf-8")
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Vocabulary":
        """The vocabulary that `save` wrote.

        Raises:
            ValueError: a file that `save` did not write, or a damaged one.
            OSError: a file that cannot be read.
        """
        path = _checks.path("path", path)
        try:
            content = json.loads(read_bytes(path, _MOST_BYTES))
            if content["format"] != _FORMAT or not isinstance(content["tokens"], list):
                raise ValueError(f"format {shown(content['format'])}")
            return cls(content["tokens"], content["level"], content["unknown"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                "path must be a file of JSON as Vocabulary.save writes it; "
                f"received {str(path)!r} ({type(error).__name__}: {error})"
            ) from error

    def _ids(self, tokens: list[str], place: Callable[[str], int]) -> np.ndarray:
        """Ids of different tokens; `place` tells where in the text a token first stands."""
        known = self._known
        unseen = [token for token in tokens if token not in known]
        if unseen and not self.unknown:
            position, token = min((place(token), token) for token in unseen)
            raise ValueError(
                f"text must hold only the {len(self)} tokens of the vocabulary; "
                f"received {token!r} at position {position} "
                "(Vocabulary.from_text(..., unknown=True) takes any text)"
            )
        return np.array([known.get(token, 0) for token in tokens], np.int32)

    @cached_property
    def _known(self) -> dict[str, int]:
        """Each token's id, asked of `lookup` once: a call for every text takes far longer."""
        ids = np.asarray(self.lookup(list(self.tokens)))
        return dict(zip(self.tokens, ids.tolist()))

    def _characters(self, text: str) -> np.ndarray:
        if len(text) < _FEW:
            return self._ids(list(text), text.index)
        # One look-up for each different character; the text itself goes through an array.
        codes = np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), np.uint32)
        distinct = np.flatnonzero(np.bincount(codes))
        table = np.zeros(int(distinct[-1]) + 1, np.int32)
        table[distinct] = self._ids([chr(code) for code in distinct], text.index)
        return table[codes]

    def _words(self, text: str) -> np.ndarray:
        words = split(text, "word")
        tokens = list(dict.fromkeys(words))
        ids = self._ids(tokens, partial(word_place, text)) if tokens else np.zeros(0)
        table = dict(zip(tokens, ids.tolist()))
        return np.array([table[word] for word in words], np.int32)


def _byte_pairs(text: Any, size: int | None, unknown: bool) -> Tokenizer:
    if unknown:
        raise ValueError(
            "unknown must be False with level='byte_pair', which has ids for any text; received "
            "unknown=True"
        )
    if not isinstance(text, str) or not text:
        raise ValueError(f"text must be a str, not empty; received {shown(text)}")
    check_text(text)
    return learn_byte_pairs(text, size)
