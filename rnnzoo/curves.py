"""Pictures: learning curves, attention, and what a script draws itself."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rnnzoo import _checks


def learning_curve(
    curves: Mapping[str, Sequence[float]], path: str | os.PathLike, *, ylabel: str
) -> str:
    """Where the picture of the curves was written, or what is missing to draw it.

    A picture is an extra: that matplotlib is absent must not end a script whose training is
    done, so it is said and not raised.

    Args:
        curves: one value per epoch, by name.
        path: the picture, such as a `.png`; its folder is made.
        ylabel: what the values are, with their unit.

    Raises:
        ValueError: no curve, or one without values.
        OSError: a path that cannot be written.

    Example:

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "curve.png")
    >>> learning_curve({"loss": [3.0, 2.0, 1.5]}, path, ylabel="nats") == str(path)
    True
    """
    fits = isinstance(curves, Mapping) and curves and all(map(_is_curve, curves.values()))
    if not fits:
        raise _checks.refuse("curves", "one or more lists of at least one number, by name", curves)
    _checks.text("ylabel", ylabel)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot(xlabel="epoch", ylabel=ylabel)
        for name, values in curves.items():
            axes.plot(range(1, len(values) + 1), values, label=name, marker=".")
        axes.grid(alpha=0.3)
        axes.legend()

    return picture(draw, path)


def attention_map(
    alignments: Sequence[Any],
    sources: Sequence[Sequence[str]],
    targets: Sequence[Sequence[str]],
    path: str | os.PathLike,
) -> str:
    """Where the picture of some alignments was written, side by side, or what is missing.

    Args:
        alignments: one `(target steps, source steps)` or larger for each pair.
        sources, targets: the tokens of each pair, as they are to be read.
        path: the picture, such as a `.png`; its folder is made.
    """
    alignments = [_checks.array("alignments", one) for one in _listed("alignments", alignments)]
    sources, targets = _listed("sources", sources), _listed("targets", targets)
    if any(one.ndim != 2 or one.dtype.kind not in "iuf" for one in alignments):
        raise ValueError("alignments must each be (target steps, source steps) numbers")
    for name, given in {"sources": sources, "targets": targets}.items():
        if not all(isinstance(token, str) for tokens in given for token in tokens):
            raise _checks.refuse(name, "a list of sequences of str", given)
        if len(given) != len(alignments):
            raise ValueError(
                f"{name} must have one entry for each of {len(alignments)} alignments; received "
                f"{len(given)}"
            )
    count = len(alignments)

    def draw(figure: Any) -> None:
        for place in range(count):
            source, target = sources[place], targets[place]
            axes = figure.add_subplot(1, count, place + 1)
            rows = max(1, len(target))  # an empty target has the row of its end
            axes.imshow(alignments[place][:rows, : len(source)], cmap="Blues", vmin=0)
            axes.set_xticks(range(len(source)), source)
            axes.set_yticks(range(len(target)), target)

    return picture(draw, path, size=(3.2 * count, 3.2))


def picture(
    draw: Callable[[Any], None], path: str | os.PathLike, size: tuple[float, float] = (7, 4.5)
) -> str:
    """Where the picture was written that `draw(figure)` made, or what is missing to draw it.

    Args:
        draw: draws on a `matplotlib.figure.Figure`.
        path: the picture, such as a `.png`; its folder is made.
        size: width and height in inches.
    """
    if not callable(draw):
        raise _checks.refuse("draw", "a function of a figure", draw)
    path = _checks.path("path", path)
    pair = isinstance(size, (tuple, list)) and len(size) == 2
    if not pair or not all(_checks.is_number(one) and one > 0 for one in size):
        raise _checks.refuse("size", "width and height in inches, above 0", size)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return "none: it needs matplotlib (pip install 'rnnzoo[plot]')"
    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(path, dpi=120)
    return str(path)


def _is_curve(values: Any) -> bool:
    try:
        held = _checks.array("curves", values)
    except ValueError:
        return False
    return held.ndim == 1 and held.size > 0 and held.dtype.kind in "iuf"


def _listed(name: str, given: Any) -> list:
    """`given` as a list of sequences."""
    found = _checks.items(name, given, "sequences")
    if not found or not all(hasattr(one, "__len__") for one in found):
        raise _checks.refuse(name, "a list of sequences, at least one", given)
    return found
