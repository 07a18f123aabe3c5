"""Where presets are: the folder of `RNNZOO_HOME`, and `saved_models` of a clone."""

import os
import pathlib

from rnnzoo.presets.folder import CARD

HOME = "RNNZOO_HOME"
_CLONE = pathlib.Path(__file__).resolve().parents[2] / "saved_models"


def places() -> list[pathlib.Path]:
    """The folders that hold presets, the first that has one wins.

    Raises:
        ValueError: `RNNZOO_HOME` is no folder.
    """
    home = os.environ.get(HOME)
    if home and not pathlib.Path(home).is_dir():
        raise ValueError(f"{HOME} must be a folder that holds presets; received {HOME}={home!r}")
    own = [pathlib.Path(home)] if home else []
    return [*own, *([_CLONE] if _CLONE.is_dir() else [])]


def find(name: str) -> pathlib.Path | None:
    """The folder of the preset `name`; None where it is in none of the places."""
    if not name or name != pathlib.PurePath(name).name:
        return None
    candidates = [place / name for place in places()]
    return next((folder for folder in candidates if (folder / CARD).is_file()), None)


def found() -> list[str]:
    """The names of all presets that are on this machine."""
    cards = [card for place in places() for card in place.glob(f"*/{CARD}") if card.is_file()]
    return sorted({card.parent.name for card in cards})
