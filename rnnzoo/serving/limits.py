"""The limits of a service."""

from dataclasses import dataclass, fields

from rnnzoo._checks import positive_integer, seconds


@dataclass(frozen=True)
class Limits:
    """What a service grants to its clients; those on streams are of `Conversations`.

    Attributes:
        bytes: of one message.
        connections: at a time.
        connections_per_client: at a time, of one address.
        idle: seconds without a message after which a WebSocket is closed.
        request: seconds in which the head, and in which the body of a request must come.
        unsent: bytes of answers that wait for their clients to read them, of all clients together;
            beyond it, those that have waited longest are broken off.
        send: seconds in which a client must have read an answer, but for the last 16 KiB.
        grace: seconds that running answers have when the service ends, and that HTTP clients
            have to take their states.

    Raises:
        ValueError: a limit that is not above 0.

    >>> Limits(idle=60).idle
    60
    """

    bytes: int = 1 << 18
    connections: int = 2000
    connections_per_client: int = 200
    idle: float = 300
    unsent: int = 1 << 28
    request: float = 10
    send: float = 20
    grace: float = 10

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int:
                positive_integer(field.name, value)
            else:
                seconds(field.name, value)
