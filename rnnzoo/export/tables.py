"""A vocabulary inside a TensorFlow graph: strings to token ids and back, tables as assets.

The table of a file has one token in each line. So that a newline can be a token, and so that
characters of all kinds can be, a character is written as the number of its code point, and a
word with its backslashes and newlines escaped.
"""

import pathlib
from typing import Any

from rnnzoo.data.text import UNKNOWN, Vocabulary

# The white space of Python's `\s` but for the newline, in the syntax of RE2.
_SPACE = r"[\s\x0b\p{Z}\x{1c}-\x{1f}\x{85}]"
_NEWLINE = r"\n"  # two characters


class TokenTable:
    """`encode` and `decode` of a `Vocabulary`, in TensorFlow.

    Args:
        vocabulary: the vocabulary.
        folder: where the file of the table is written, until the SavedModel holds it.
        name: the file's name, without ending.
    """

    def __init__(self, vocabulary: Vocabulary, folder: pathlib.Path, name: str):
        import tensorflow as tf

        self._tf = tf
        self._words = vocabulary.level == "word"
        self._unknown = vocabulary.unknown
        path = folder / f"{name}.txt"
        lines = map(self._line, vocabulary.tokens[vocabulary.unknown :])
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        key = (tf.string, tf.lookup.TextFileIndex.WHOLE_LINE) if self._words else (tf.int64, 0)
        row = (tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER)
        file = str(path)
        self._ids = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(file, *key, *row), default_value=-1
        )
        missing = UNKNOWN if self._words else -1
        self._tokens = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(file, *row, *key), default_value=missing
        )
        self.tables = (self._ids, self._tokens)

    def encode(self, text: Any) -> tuple[Any, Any]:
        """Strings `(batch,)` as tokens `(batch, longest)` int32, zeros at the end, and lengths.

        A token that is not in the vocabulary becomes the unknown one; without one, or where a
        string holds no token, the graph raises `InvalidArgumentError`.
        """
        tf = self._tf
        ragged = self._split(text)
        ids = tf.cast(self._ids.lookup(ragged.flat_values), tf.int32)
        if self._unknown:
            ids = ids + 1
        else:
            known = "text must be made of the tokens of the vocabulary"
            with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(ids >= 0), [known])]):
                ids = tf.identity(ids)
        lengths = tf.cast(ragged.row_lengths(), tf.int32)
        some = tf.debugging.Assert(tf.reduce_all(lengths > 0), ["text must hold a token"])
        with tf.control_dependencies([some]):
            return ragged.with_flat_values(ids).to_tensor(), tf.identity(lengths)

    def decode(self, tokens: Any, lengths: Any) -> Any:
        """The strings `(batch,)` of the first `lengths` `(batch,)` of `tokens` `(batch, time)`."""
        tf = self._tf
        ragged = tf.RaggedTensor.from_tensor(tokens, lengths=lengths)
        ids = tf.cast(ragged.flat_values, tf.int64) - int(self._unknown)
        found = ragged.with_flat_values(self._tokens.lookup(ids))
        if self._words:
            return self._joined(found)
        # The unknown token has no code point of its own: it is spelt out.
        characters = tf.strings.unicode_encode(
            tf.expand_dims(tf.cast(tf.maximum(found.flat_values, 0), tf.int32), 1), "UTF-8"
        )
        characters = tf.where(found.flat_values < 0, UNKNOWN, characters)
        return tf.strings.reduce_join(found.with_flat_values(characters), axis=-1)

    def _line(self, token: str) -> str:
        if not self._words:
            return str(ord(token))
        return _NEWLINE if token == "\n" else token.replace("\\", "\\\\")

    def _split(self, text: Any) -> Any:
        tf = self._tf
        if not self._words:
            codes = tf.strings.unicode_decode(text, "UTF-8")
            return codes.with_flat_values(tf.cast(codes.flat_values, tf.int64))
        text = tf.strings.regex_replace(text, r"\\", r"\\\\")
        text = tf.strings.regex_replace(text, r"\n", r" \\n ")
        return tf.strings.split(tf.strings.regex_replace(text, f"{_SPACE}+", " "))

    def _joined(self, words: Any) -> Any:
        """Words with one space between them, but none beside a newline."""
        tf = self._tf
        plain = tf.strings.regex_replace(words.flat_values, r"\\\\", r"\\")
        plain = tf.where(words.flat_values == _NEWLINE, "\n", plain)
        text = tf.strings.reduce_join(words.with_flat_values(plain), axis=-1, separator=" ")
        return tf.strings.regex_replace(tf.strings.regex_replace(text, " \n", "\n"), "\n ", "\n")
