"""Learning curves as a picture."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path


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
    if not curves or not all(len(values) for values in curves.values()):
        raise ValueError(
            "curves must be one or more lists of at least one value; "
            f"received { ({name: len(values) for name, values in curves.items()}) }"
        )
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return "none: it needs matplotlib (pip install 'rnnzoo[plot]')"
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel=ylabel)
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=name, marker=".")
    axes.grid(alpha=0.3)
    axes.legend()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(path, dpi=120)
    return str(path)
