"""What is in the zoo: names, cards, architectures."""

import builtins
import difflib
import warnings
from collections.abc import Iterable
from typing import Any

from rnnzoo import _checks
from rnnzoo.presets.card import Card
from rnnzoo.presets.folder import read_card
from rnnzoo.zoo.animals import BY_NAME
from rnnzoo.zoo.places import find, found


def list(
    task: str | None = None,
    cell: str | None = None,
    form: str | None = None,
    trained: bool | None = None,
) -> builtins.list[str]:
    """The names in the zoo, sorted: architectures, and presets found on this machine.

    A preset whose card cannot be read is left out, with a warning that names it.

    Args:
        task: 'text-generation', 'text-classification', ...; None for all.
        cell: 'lstm', 'gru', ...; None for all.
        form: 'one_to_one', 'many_to_one', 'encoder_decoder'; None for all.
        trained: True for those whose weights are here, False for the others; None for all.

    Raises:
        ValueError: a task, cell or form that nothing in the zoo has; the text names those.

    Example:

    >>> import rnnzoo
    >>> "zaremba.small" in rnnzoo.zoo.list(form="one_to_one", cell="lstm")
    True
    """
    known_cards = {}
    for name in sorted({*BY_NAME, *found()}):
        try:
            known_cards[name] = card(name)
        except (ValueError, OSError) as error:
            warnings.warn(f"the preset {name} is not listed: {error}", stacklevel=2)
    cards = known_cards
    if trained is not None:
        _checks.flag("trained", trained)
        cards = {name: one for name, one in cards.items() if one.trained == trained}
    for key, value in {"task": task, "cell": cell, "form": form}.items():
        if value is not None:
            known = sorted({getattr(one, key) for one in known_cards.values()})
            _checks.one_of(key, value, known)
            cards = {name: one for name, one in cards.items() if getattr(one, key) == value}
    # Of folders, not of cards: what is listed can be loaded, whatever its card calls it.
    return [*cards]


def card(name: str) -> Card:
    """What is known of the model `name`: paper, data, figures, licence; it prints well.

    Args:
        name: one of `rnnzoo.zoo.list()`.

    Raises:
        ValueError: a name that is not in the zoo; the text names near ones.

    Example:

    >>> import rnnzoo
    >>> card = rnnzoo.zoo.card("zaremba.small")
    >>> card.year, card.published
    (2014, '115.91')
    """
    folder = find(_checks.text("name", name))
    if folder is not None:
        return read_card(folder)
    if name not in BY_NAME:
        raise unknown(name)
    return BY_NAME[name].card


def build(name: str, **changes: Any) -> Any:
    """A new model of the architecture `name`, with the sizes of its paper and no training.

    Args:
        name: an architecture of `rnnzoo.zoo.list()`.
        changes: arguments of the factory of its form, instead of the paper's: `units=64`,
            `vocabulary=...`, `dropout=0.0`.

    Raises:
        ValueError: a name that is no architecture, a change that the form does not have.

    Example:

    >>> import rnnzoo
    >>> model = rnnzoo.zoo.build("zaremba.small", units=[8, 8], embedding=8, vocabulary=50)
    >>> model = rnnzoo.zoo.card("zaremba.small").compile(model)
    >>> model.count_params()
    1938
    """
    if _checks.text("name", name) not in BY_NAME:
        raise unknown(name, BY_NAME, "an architecture of the zoo")
    return BY_NAME[name].build(changes)


def unknown(name: str, known: Iterable[str] | None = None, what: str = "in the zoo") -> ValueError:
    """The error that `name` is not one of `known`, to be raised by the caller."""
    known = sorted({*BY_NAME, *found()} if known is None else known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Near ones: {', '.join(near)}" if near else f"There are {', '.join(known)}"
    return ValueError(f"name must be {what}; received name={name!r}. {hint}.")
