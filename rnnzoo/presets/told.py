"""What a card is told by whoever saves a model, checked; the rest of it is counted."""

import dataclasses
from typing import Any

from rnnzoo import _checks
from rnnzoo.data.sound import LogMel
from rnnzoo.presets.card import LICENCES, Card
from rnnzoo.presets.training import Training

COUNTED = ("form", "cell", "parameters", "files", "format")
GIVEN = tuple(one.name for one in dataclasses.fields(Card) if one.name not in COUNTED)

_NUMBERS = ("measured", "minutes")
_OWN = (*_NUMBERS, "year", "licence", "baseline", "labels", "sound", "training")


def check_told(told: dict[str, Any], model: Any) -> None:
    """ValueError for words that are not of a card, or that do not fit `model`."""
    strange = sorted(set(told) - set(GIVEN))
    if strange:
        raise ValueError(
            f"what a card is told must be among {', '.join(GIVEN)}; received {', '.join(strange)}"
        )
    told = {name: value for name, value in told.items() if value is not None}
    for name, value in told.items():
        if name not in _OWN:
            _checks.text(name, value)
        if name in _NUMBERS:
            _checks.number(name, value, "a number", lambda _: True)
    if "year" in told:
        _checks.integer("year", told["year"], 1900)
    licence = told.get("licence", {})
    if not _texts(licence) or set(licence) - set(LICENCES):
        raise _checks.refuse("licence", "a dict of 'data' and 'weights', with texts", licence)
    baseline = told.get("baseline", {})
    if not isinstance(baseline, dict) or not all(map(_checks.is_number, baseline.values())):
        raise _checks.refuse("baseline", "a dict of numbers by the names of methods", baseline)
    if not isinstance(told.get("training"), (Training, type(None))):
        raise _checks.refuse("training", "None or the Training of a card", told["training"])
    _check_sound(told.get("sound"), model)
    _check_labels(told.get("labels"), model)
    _check_end(told.get("end"), model)


def _texts(given: Any) -> bool:
    return isinstance(given, dict) and all(isinstance(text, str) for text in given.values())


def _check_sound(sound: Any, model: Any) -> None:
    if sound is None:
        return
    if not isinstance(sound, LogMel):
        raise _checks.refuse("sound", "None or a rnnzoo.data.LogMel", sound)
    shapes = [one.shape for one in model.spec.inputs.values() if one.per_step]
    if shapes != [(sound.bands,)] or any(model.vocabularies.values()):
        raise ValueError(
            "sound must be of a model whose only steps are its bands; received bands="
            f"{sound.bands} for steps of shape {', '.join(map(str, shapes))}"
        )


def _check_labels(labels: Any, model: Any) -> None:
    if labels is None:
        return
    shapes = [output.shape for output in model.spec.outputs.values()]
    fits = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if len(shapes) > 1 or not fits or (len(labels),) != shapes[0]:
        raise ValueError(
            "labels must be a list of one str for each output of a model with one output; received "
            f"labels={_checks.shown(labels)} for outputs of shape {', '.join(map(str, shapes))}"
        )


def _check_end(end: Any, model: Any) -> None:
    known = model.vocabularies.get("prompt")
    fits = isinstance(end, str) and end in getattr(known, "tokens", ())
    if end is not None and not fits:
        raise ValueError(
            "end must be a token of the vocabulary of a one_to_one model; received "
            f"end={_checks.shown(end)}, vocabulary {known}"
        )
