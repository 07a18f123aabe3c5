"""The page of results, made of the cards: `python recipes/zoo/page.py` writes it again."""

from pathlib import Path

from rnnzoo.presets.card import figure
from rnnzoo.presets.folder import read_card

SAVED = Path(__file__).resolve().parents[2] / "saved_models"
PAGE = SAVED / "RESULTS.md"
HEAD = """# Results of the zoo

Written by `python recipes/zoo/page.py` from the cards in `saved_models/`, which
`make zoo zoo=NAME` fills. Each figure is of one training, its settings chosen on validation rows
or set without a trial, and of the weights as they are stored; plain methods are measured in the
same run, on the same rows.
[seen] and [recalled] say whether a published figure was read at its source or quoted from memory.
Minutes are those on the clock, on a machine that did other work too.

| model | figure | here | published | plain methods | parameters | cost |
|---|---|---|---|---|---|---|
"""


def page():
    """The text of the page."""
    cards = [read_card(path.parent) for path in sorted(SAVED.glob("*/card.json"))]
    return HEAD + "".join(f"| {' | '.join(row(card))} |\n" for card in cards)


def row(card):
    plain = "; ".join(f"{name} {figure(value)}" for name, value in card.baseline.items())
    cost = f"{card.minutes:g} minutes on {card.machine}, {card.date}"
    told = [f"`{card.name}`", card.metric, figure(card.measured), card.published or "none"]
    return [*told, plain, f"{card.parameters:,}", cost]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written    {PAGE}")
