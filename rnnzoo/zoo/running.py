"""What a trained model answers to a text, a CSV file or a sound, as lines of text."""

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from rnnzoo.data.files import read_csv
from rnnzoo.decoding import Sample
from rnnzoo.presets.card import Card


def written(
    model: Any, card: Card, text: str | None, length: int, temperature: float, seed: int
) -> str:
    """What a model that writes text goes on with after `text`.

    Args:
        model: a one-to-one model on tokens, with a vocabulary.
        card: tells the token that ends a text, if there is one.
        text: where it begins; None begins with a newline, or with the first token.
        length: tokens to write at most.
        temperature: 0 takes the most probable token each time.
        seed: of the draws.
    """
    known = next(filter(None, model.vocabularies.values()))
    if text is not None:
        _encoded(known, text)
    else:
        tokens = getattr(known, "tokens", ("\n",))
        text = "\n" if "\n" in tokens else tokens[0]

    end = {} if card.end is None else {"end": known.tokens.index(card.end)}
    return model.generate(text, max_length=length, sampler=_sampler(temperature, seed), **end).text[
        0
    ]


def answered(
    model: Any, lines: Iterable[str], length: int, temperature: float, seed: int
) -> Iterator[str]:
    """For each of `lines`, of an encoder-decoder with two vocabularies: line, answer."""
    for line in lines:
        _encoded(model.vocabularies["source"], line)
        told = model.generate([line], max_length=length, sampler=_sampler(temperature, seed))
        yield f"{line}\t{told.text[0]}"


def _encoded(known: Any, text: str) -> np.ndarray:
    """The ids of a text; a warning where the model knows none of its tokens."""
    ids = known.encode(text)
    if getattr(known, "unknown", False) and len(ids) and not ids.any():
        warnings.warn(
            f"the model knows no {known.level} of {text!r}, so that its answer tells nothing",
            stacklevel=2,
        )
    return ids


def _sampler(temperature: float, seed: int) -> Any:
    return Sample(temperature, seed=seed) if temperature else "greedy"


def classified(model: Any, card: Card, lines: Iterable[str]) -> Iterator[str]:
    """For each of `lines`, of a many-to-one model on tokens: line, class, probability."""
    for line in lines:
        ids = _encoded(model.vocabularies["prompt"], line)
        outputs = np.asarray(model.predict({"inputs": ids[None]}, verbose=0))[0]
        yield f"{line}\t{told(outputs, card, model)}"


def computed(model: Any, card: Card, path: str) -> Iterator[str]:
    """For each sequence of a CSV file `sequence, step, features...`: its name and the outputs.

    Raises:
        ValueError: another number of features than the model takes.
    """
    table, spec = read_csv(path), model.spec
    (needed,) = spec.inputs[spec.leading].shape
    if len(table.features) != needed:
        raise ValueError(
            f"{path} must have the columns sequence, step and {needed} features; received "
            f"{len(table.features)} features: {', '.join(table.features)}"
        )
    for name, sequence in zip(table.names, table.sequences):
        yield from _of_sequence(model, card, name, sequence)


def heard(model: Any, card: Card, path: str) -> Iterator[str]:
    """For a WAV file: its name and the outputs, of a model that reads sound.

    Raises:
        ValueError: a model that reads none, or a file that is not as its card says.
    """
    if card.sound is None:
        raise ValueError(f"{card.name} reads no sound; received {path!r}")
    steps = card.sound.read(path)
    yield from _of_sequence(model, card, path, steps)


def _of_sequence(model: Any, card: Card, name: str, sequence: np.ndarray) -> Iterator[str]:
    spec = model.spec
    outputs = np.asarray(model.predict({spec.leading: sequence[None]}, verbose=0))[0]
    if spec.of_last_step:
        yield f"{name}\t{told(outputs, card, model)}"
    else:
        yield from (f"{name}\t{i}\t{told(row, card, model)}" for i, row in enumerate(outputs))


def told(outputs: np.ndarray, card: Card, model: Any) -> str:
    """The most probable label and its probability, or, without labels, the numbers."""
    if card.labels is None or len(card.labels) != len(outputs):
        return "\t".join(f"{value:.6g}" for value in outputs)
    (output,) = model.spec.outputs.values()
    logits = output.activation != "softmax"
    chances = np.exp(outputs - outputs.max()) if logits else outputs
    best = int(outputs.argmax())
    return f"{card.labels[best]}\t{chances[best] / chances.sum():.3f}"
