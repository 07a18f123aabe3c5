"""The zoo: named architectures, trained weights, cards."""

from rnnzoo.presets.card import Card
from rnnzoo.zoo.catalogue import build, card, list
from rnnzoo.zoo.hub import upload
from rnnzoo.zoo.loading import save

__all__ = ["Card", "build", "card", "list", "save", "upload"]
