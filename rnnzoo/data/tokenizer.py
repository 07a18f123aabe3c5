"""Tokenizers of other libraries as vocabularies, kept with a model; byte-pair pieces."""

import base64
import importlib
import json
import os
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import shown
from rnnzoo.backend.keras_internals import SafeModeScope

FORMAT = "rnnzoo tokenizer 1"

# What libraries call the number of ids, and the two ways.
_SIZES = ("get_vocab_size", "get_piece_size", "vocabulary_size", "vocab_size")
_WAYS = (("encode", "decode"), ("tokenize", "detokenize"))
# Those that would add tokens of their own around a text, unless told.
_ADDING = ("tokenizers", "transformers")


@keras.saving.register_keras_serializable(package="rnnzoo")
class Tokenizer:
    """A tokenizer of another library as a vocabulary: `encode` text to ids, `decode` ids to text.

    What takes a `vocabulary` makes one itself of any object with `encode` and `decode` (or
    `tokenize` and `detokenize`) and a size: of Hugging Face's `tokenizers` and `transformers`,
    `sentencepiece`, keras-hub. Special tokens are not added, since models have start and end
    tokens of their own, nor left out.

    It is saved with a model where its library can write it down: those of `tokenizers` (and what
    `transformers` has of them), `sentencepiece`, keras-hub, and classes registered with
    `keras.saving.register_keras_serializable`. Loading it needs the library.

    Args:
        source: the tokenizer.

    Raises:
        ValueError: an object without these methods or a size.

    Example:

    >>> class Digits:
    ...     def encode(self, text): return [int(digit) for digit in text]
    ...     def decode(self, ids): return "".join(map(str, ids))
    ...     def __len__(self): return 10
    >>> known = Tokenizer(Digits())
    >>> known.encode("407"), known.decode([4, 0, 7]), len(known)
    (array([4, 0, 7], dtype=int32), '407', 10)
    """

    def __init__(self, source: Any):
        # A fast tokenizer of `transformers` is one of `tokenizers`, with less to load.
        self.source = getattr(source, "backend_tokenizer", source)
        ways = _ways(self.source)
        self._size = None if ways is None else _size(self.source)
        if not self._size:
            raise ValueError(
                "source must be a tokenizer with encode, decode and a size (len, or one of "
                f"{', '.join(_SIZES)}); received {shown(source)}"
            )
        self._encode, self._decode = (getattr(self.source, name) for name in ways)
        kinds = type(self.source).__mro__  # a user's own may be one of a library
        self._bare = any(kind.__module__.split(".")[0] in _ADDING for kind in kinds)

    @property
    def name(self) -> str:
        """What it is a tokenizer of: `tokenizers.Tokenizer`."""
        return f"{_library(self.source)}.{type(self.source).__name__}"

    def __len__(self) -> int:
        """The number of ids."""
        return self._size

    def __repr__(self) -> str:
        """A short description."""
        return f"<Tokenizer {self.name} of {len(self)} tokens>"

    def encode(self, text: str) -> np.ndarray:
        """The token ids of a text, `(tokens,)` int32.

        Raises:
            ValueError: what is no text, ids that are none of the size that it tells.
        """
        if not isinstance(text, str):
            raise ValueError(f"text must be a str; received {shown(text)}")
        found = self._encode(text, **({"add_special_tokens": False} if self._bare else {}))
        ids = np.asarray(getattr(found, "ids", found)).reshape(-1)
        return _checks.token_ids(f"ids of {self.name}", ids, len(self)).astype(np.int32)

    def decode(self, ids: Iterable[int] | np.ndarray) -> str:
        """The text of token ids `(tokens,)`.

        Raises:
            ValueError: another rank, ids that are no integers or out of range.
        """
        ids = _checks.token_ids("ids", ids, len(self)).tolist()
        found = self._decode(ids, **({"skip_special_tokens": False} if self._bare else {}))
        found = found if isinstance(found, str) else np.asarray(found).item()  # a tensor
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else found

    def get_config(self) -> dict[str, Any]:
        """What makes this tokenizer again.

        Raises:
            NotImplementedError: one whose library cannot write it down.
        """
        library, source = _library(self.source), self.source
        if library == "tokenizers":
            return {"library": library, "content": source.to_str()}
        if library == "sentencepiece":
            content = base64.b64encode(source.serialized_model_proto()).decode()
            return {"library": library, "content": content}
        registered = keras.saving.get_registered_name(type(source))
        if keras.saving.get_registered_object(registered) is type(source):
            content = {"object": keras.saving.serialize_keras_object(source)}
            return {"library": "keras", "content": content | _assets(source)}
        raise NotImplementedError(f"{self.name} cannot be written down")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Tokenizer":
        """The tokenizer that `get_config` described.

        Raises:
            ValueError: another description.
            ImportError: its library is not installed.
        """
        if not isinstance(config, dict) or set(config) != {"library", "content"}:
            raise ValueError(f"config must have library and content; received {shown(config)}")
        library, content = config["library"], config["content"]
        if library == "keras":
            return cls(_of_keras(content))
        _checks.one_of("library", library, ("tokenizers", "sentencepiece"))
        package = needed(library)
        if library == "tokenizers":
            return cls(package.Tokenizer.from_str(content))
        return cls(package.SentencePieceProcessor(model_proto=base64.b64decode(content)))

    @property
    def plain(self) -> bool:
        """Whether `save` can write it: as plain text that runs nothing when it is read."""
        return _library(self.source) in ("tokenizers", "sentencepiece")

    def save(self, path: str | os.PathLike) -> None:
        """Writes the tokenizer as JSON.

        Raises:
            NotImplementedError: one that is not of `tokenizers` or `sentencepiece`.
        """
        if not self.plain:
            raise NotImplementedError(f"{self.name} cannot be written as plain text")
        content = json.dumps({"format": FORMAT, **self.get_config()}, indent=0)
        _checks.path("path", path).write_text(content + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Tokenizer":
        """The tokenizer that `save` wrote.

        Raises:
            ValueError: a file that `save` did not write, or a damaged one.
            ImportError: its library is not installed.
        """
        path = _checks.path("path", path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT or content["library"] == "keras":
                raise ValueError("another format")
            return cls.from_config(content)
        except (ImportError, OSError):
            raise
        except Exception as error:  # libraries raise what they like
            raise ValueError(
                "path must be a file of JSON as Tokenizer.save writes it; received "
                f"{str(path)!r} ({type(error).__name__}: {error})"
            ) from error


def learn_byte_pairs(text: str, size: int) -> Tokenizer:
    """A tokenizer of at most `size` byte-pair pieces learnt of a text (Sennrich et al., 2016).

    Its first pieces are the 256 bytes, so that it can write any text.

    Raises:
        ValueError: a size below 256.
        ImportError: `tokenizers` is not installed.
    """
    size = _checks.integer("max_size", size, 256)
    package = needed("tokenizers")
    made = package.Tokenizer(package.models.BPE())
    made.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = package.decoders.ByteLevel()
    alphabet = package.pre_tokenizers.ByteLevel.alphabet()
    trainer = package.trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=sorted(alphabet), show_progress=False
    )
    made.train_from_iterator(text.splitlines(keepends=True), trainer)
    return Tokenizer(made)


def kept(vocabulary: Any, otherwise: Any = None) -> Any:
    """A vocabulary as a configuration can hold it; `otherwise`, with a warning, where none can.

    Args:
        vocabulary: a `Vocabulary`, a `Tokenizer` or None.
        otherwise: what stands for one that cannot be written down.
    """
    try:
        return keras.saving.serialize_keras_object(vocabulary)
    except NotImplementedError:
        warnings.warn(
            f"the tokenizer {vocabulary.name} is not saved with the model, since it cannot be "
            "written down (a class registered with keras.saving.register_keras_serializable can). "
            "After loading, encode and decode with it, or set model.vocabulary.",
            stacklevel=2,
        )
        return otherwise


def needed(library: str) -> Any:
    """The package `library`; ImportError that says how to install it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ImportError(
            f"such a tokenizer must have the package {library}; received none "
            f"(pip install {library}; 'rnnzoo[tokenizers]' has tokenizers)"
        ) from error


def _library(source: Any) -> str:
    return type(source).__module__.split(".")[0]


def _ways(source: Any) -> tuple[str, str] | None:
    """The names of the methods that go there and back."""
    for ways in _WAYS:
        if not isinstance(source, type) and all(
            callable(getattr(source, name, None)) for name in ways
        ):
            return ways
    return None


def _size(source: Any) -> int | None:
    """The number of ids of a tokenizer, None where it has none."""
    if hasattr(source, "__len__") and not isinstance(source, type):
        return len(source)
    for name in _SIZES:
        size = getattr(source, name, None)
        size = size() if callable(size) else size
        if isinstance(size, (int, np.integer)) and not isinstance(size, bool):
            return int(size)
    return None


def _assets(source: Any) -> dict[str, dict]:
    """What a tokenizer of keras-hub has in files: its configuration does without."""
    if not hasattr(source, "save_assets"):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        source.save_assets(folder)
        files = {one.name: base64.b64encode(one.read_bytes()) for one in Path(folder).iterdir()}
    return {"assets": {name: content.decode() for name, content in files.items()}}


def _of_keras(content: dict) -> Any:
    source = keras.saving.deserialize_keras_object(content["object"])
    if "assets" in content:
        with tempfile.TemporaryDirectory() as folder:
            for name, written in content["assets"].items():
                (Path(folder) / Path(name).name).write_bytes(base64.b64decode(written))
            with SafeModeScope(False):  # these files are the model's own
                source.load_assets(folder)
    return source
