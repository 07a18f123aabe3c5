"""Models outside the process that trained them: what an export offers, and how it is used."""

from rnnzoo.serving.answers import read_answer
from rnnzoo.serving.batching import Batcher, Overloaded
from rnnzoo.serving.client import Served, Stream, load_served
from rnnzoo.serving.conversation import Conversation
from rnnzoo.serving.conversations import Conversations, UnknownStream
from rnnzoo.serving.limits import Limits
from rnnzoo.serving.seals import Keys, SpentSeals, seal, unseal

__all__ = [
    "Batcher",
    "Conversation",
    "Conversations",
    "Keys",
    "Limits",
    "Overloaded",
    "Served",
    "SpentSeals",
    "Stream",
    "UnknownStream",
    "load_served",
    "read_answer",
    "seal",
    "unseal",
]
