"""A stream's state as a signed text, which its client may keep and bring back."""

import base64
import binascii
import hashlib
import hmac
import io
import json
import os
import secrets
import sqlite3
import time
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnnzoo import _checks
from rnnzoo._checks import items, positive_integer, shown
from rnnzoo.serving.client import Served, Stream

_DIGEST = hashlib.sha256
_SIZE = _DIGEST().digest_size
_VERSION = "2."
_TABLE = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=NORMAL",
    "CREATE TABLE IF NOT EXISTS spent (id TEXT PRIMARY KEY, until REAL)",
    "CREATE INDEX IF NOT EXISTS ends ON spent (until)",
)


class Keys:
    """The secret that seals are signed with, and older ones that are still accepted.

    To change the secret, start with the new one and the old one in `old`, for as long as clients
    hold seals of it.

    Args:
        key: the secret that signs, at least 16 bytes.
        old: secrets that signed before.
        until: Unix time from which seals of `old` are refused; None: never.
        lifetime: seconds for which a seal can be used; None: for ever.
        spent: where given, a seal can be used once. It then needs a lifetime, after which it
            need not be remembered.

    Raises:
        ValueError: a secret that is too short, another argument out of its range.
    """

    def __init__(
        self,
        key: bytes,
        *,
        old: Iterable[bytes] = (),
        until: float | None = None,
        lifetime: float | None = None,
        spent: "SpentSeals | None" = None,
    ):
        secret = [key, *items("old", old, "secrets")]
        for i, one in enumerate(secret):
            if not isinstance(one, bytes) or len(one) < 16:
                place = "old must hold secrets, and each " if i else ""
                raise ValueError(
                    f"{place}key must be a secret of at least 16 bytes; received another"
                )
        if until is not None and not _is_number(until):
            raise ValueError(f"until must be a Unix time or None; received until={shown(until)}")
        if lifetime is not None and not (_is_number(lifetime) and lifetime > 0):
            raise ValueError(
                f"lifetime must be seconds above 0 or None; received lifetime={shown(lifetime)}"
            )
        if spent is not None and (lifetime is None or not isinstance(spent, SpentSeals)):
            raise ValueError(
                "spent must be a rnnzoo.serving.SpentSeals, together with a lifetime; "
                f"received {shown(spent)}, lifetime={lifetime}"
            )
        self.until, self.lifetime, self.spent = until, lifetime, spent
        self.name = _name(key)
        self._secrets = {_name(one): one for one in secret}

    def sign(self, name: str, message: bytes) -> bytes:
        """The signature by the secret of that name; of one that is unknown, one that never fits."""
        old, ended = name != self.name, self.until is not None and time.time() >= self.until
        if name not in self._secrets or (old and ended):
            return secrets.token_bytes(_SIZE)
        return hmac.digest(self._secrets[name], message, _DIGEST)

    def names(self) -> list[str]:
        """The names of all secrets; a name tells nothing of its secret."""
        return list(self._secrets)


class SpentSeals:
    """Seals that were used, so that none is used twice.

    A seal is used once it is loaded, also where its client broke off before it was told so.

    Args:
        path: a file (SQLite) that remembers them when the service starts anew, and that several
            processes may share. Without one they are remembered as long as the object lives: a
            service that starts anew with the same key would then accept them once more.
        limit: seals that are remembered at most; when so many have not ended yet, further
            ones are refused.

    Raises:
        ValueError: a limit below 1, a file that cannot be used.
    """

    def __init__(self, path: str | os.PathLike = ":memory:", limit: int = 100_000):
        self.limit = positive_integer("limit", limit)
        path = _checks.path("path", path)
        try:
            self._table = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            weakref.finalize(self, self._table.close)
            for line in _TABLE:
                self._table.execute(line)
        except sqlite3.Error as error:
            raise ValueError(
                f"path must be a file of seals that were used; received {str(path)!r} ({error})"
            ) from error

    def spend(self, seal: str, until: float) -> None:
        """Notes that the seal of this id, which ends at `until`, is used; ValueError if it was."""
        self._table.execute("DELETE FROM spent WHERE until < ?", (time.time(),))
        (count,) = self._table.execute("SELECT count(*) FROM spent").fetchone()
        if count >= self.limit:
            raise ValueError(f"at most {self.limit} seals can be remembered as used; try later")
        try:
            self._table.execute("INSERT INTO spent VALUES (?, ?)", (seal, until))
        except sqlite3.IntegrityError:
            raise ValueError("a seal may be used once; received one that was used") from None


def seal(stream: Stream, key: bytes | Keys) -> str:
    """The state of `stream` as a text that `unseal` takes with the same key.

    The text is signed (HMAC-SHA256) and not encrypted: who holds it can read the state, and
    cannot alter it. It is bound to the model's weights, and names its key by a fingerprint.
    Send it in a body, never in a URL: URLs are logged.

    Args:
        stream: the stream.
        key: a secret of at least 16 bytes, or `Keys`, which may give the text an end.

    Raises:
        ValueError: no stream, a shorter key.
    """
    if not isinstance(stream, Stream):
        raise ValueError(f"stream must be a rnnzoo.serving.Stream; received {shown(stream)}")
    keys = key if isinstance(key, Keys) else Keys(key)
    until = None if keys.lifetime is None else time.time() + keys.lifetime
    head = json.dumps({"key": keys.name, "id": secrets.token_hex(16), "until": until}).encode()
    kept = io.BytesIO()
    np.savez(kept, steps=np.int64(stream.steps), **{f"s.{k}": v for k, v in stream.state.items()})
    content = len(head).to_bytes(2, "big") + head + kept.getvalue()
    signed = keys.sign(keys.name, _message(stream.served, content)) + content
    return _VERSION + base64.urlsafe_b64encode(signed).decode("ascii")


def unseal(served: Served, text: Any, key: bytes | Keys) -> Stream:
    """A stream of `served` that goes on from what `seal` wrote.

    Args:
        served: the model that the state is of.
        text: what `seal` returned.
        key: the same secret, or `Keys` that hold it.

    Raises:
        ValueError: a text that was altered, of another model, sealed with another key, past
            its lifetime, used before where `Keys` say that it can be used once.
    """
    if not isinstance(served, Served):
        raise ValueError(f"served must be what load_served returned; received {shown(served)}")
    keys = key if isinstance(key, Keys) else Keys(key)
    text = text if isinstance(text, str) else ""
    if not text.startswith(_VERSION):
        return _stream(served, _first_version(served, text, keys))
    signed = _decoded(text.removeprefix(_VERSION))
    signature, content = signed[:_SIZE], signed[_SIZE:]
    end = 2 + int.from_bytes(content[:2], "big")
    head = _head(content[2:end])
    expected = keys.sign(str(head.get("key")), _message(served, content))
    if not hmac.compare_digest(signature, expected):
        raise ValueError(_OTHER)
    until = head["until"]
    if until is not None and time.time() >= until:
        raise ValueError(f"the text must be used within its lifetime, which ended at {until:.0f}")
    if keys.lifetime is not None and until is None:
        raise ValueError(_ENDLESS)
    stream = _stream(served, content[end:])
    if keys.spent is not None:
        keys.spent.spend(head["id"], until)
    return stream


_OTHER = (
    "the text must be what seal returned for a stream of this model, with the same key; "
    "received one that is not"
)
_ENDLESS = "the text must have a lifetime, as those have that are made now; received one without"


def _first_version(served: Served, text: str, keys: Keys) -> bytes:
    """The content of a seal of rnnzoo 0.1: it had no version, key name, or end.

    So it is taken only where seals need no end.
    """
    signed = _decoded(text)
    message = served.manifest["weights_sha256"].encode() + b"\n" + signed[_SIZE:]
    signatures = [keys.sign(name, message) for name in keys.names()]
    if not any(hmac.compare_digest(signed[:_SIZE], signature) for signature in signatures):
        raise ValueError(_OTHER)
    if keys.lifetime is not None:
        raise ValueError(_ENDLESS)
    return signed[_SIZE:]


def _stream(served: Served, content: bytes) -> Stream:
    with np.load(io.BytesIO(content), allow_pickle=False) as kept:
        state = {name[2:]: kept[name] for name in kept.files if name.startswith("s.")}
        stream = served.new_stream(state=state)
        stream.steps = int(kept["steps"])
    return stream


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return b""


def _head(text: bytes) -> dict:
    """What a seal says of itself, not to be believed before its signature is compared."""
    try:
        head = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return head if isinstance(head, dict) else {}


def _message(served: Served, content: bytes) -> bytes:
    return f"rnnzoo seal 2\n{served.weights}\n".encode() + content


def _name(key: bytes) -> str:
    return hmac.digest(key, b"rnnzoo key name", _DIGEST).hex()[:16]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
