"""Models outside the process that trained them: what an export offers, and how it is used."""

from rnnzoo.serving.batching import Batcher, Overloaded
from rnnzoo.serving.client import Served, Stream, load_served
from rnnzoo.serving.conversation import Conversation
from rnnzoo.serving.conversations import Conversations
from rnnzoo.serving.seals import seal, unseal

__all__ = [
    "Batcher",
    "Conversation",
    "Conversations",
    "Overloaded",
    "Served",
    "Stream",
    "load_served",
    "seal",
    "unseal",
]
