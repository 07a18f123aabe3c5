"""A stream's state as a signed text, which its client may keep and bring back."""

import base64
import binascii
import hashlib
import hmac
import io
from typing import Any

import numpy as np

from rnnzoo.serving.client import Served, Stream

_DIGEST = hashlib.sha256


def seal(stream: Stream, key: bytes) -> str:
    """The state of `stream` as a text that `unseal` takes with the same key.

    The text is signed (HMAC-SHA256) and not encrypted: who holds it can read the state, and
    cannot alter it. It is bound to the model's weights.

    Args:
        stream: the stream.
        key: a secret of at least 16 bytes.

    Raises:
        ValueError: a shorter key.
    """
    kept = io.BytesIO()
    np.savez(kept, steps=np.int64(stream.steps), **{f"s.{k}": v for k, v in stream.state.items()})
    content = kept.getvalue()
    signed = _sign(stream.served, content, key) + content
    return base64.urlsafe_b64encode(signed).decode("ascii")


def unseal(served: Served, text: Any, key: bytes) -> Stream:
    """A stream of `served` that goes on from what `seal` wrote.

    Args:
        served: the model that the state is of.
        text: what `seal` returned.
        key: the same secret.

    Raises:
        ValueError: a text that was altered, of another model, or sealed with another key.
    """
    try:
        signed = base64.b64decode(str(text).encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        signed = b""
    size = _DIGEST().digest_size
    signature, content = signed[:size], signed[size:]
    if not hmac.compare_digest(signature, _sign(served, content, key)):
        raise ValueError(
            "the text must be what seal returned for a stream of this model, with the same key; "
            "received one that is not"
        )
    with np.load(io.BytesIO(content), allow_pickle=False) as kept:
        state = {name[2:]: kept[name] for name in kept.files if name.startswith("s.")}
        stream = served.new_stream(state=state)
        stream.steps = int(kept["steps"])
    return stream


def _sign(served: Served, content: bytes, key: bytes) -> bytes:
    if not isinstance(key, bytes) or len(key) < 16:
        raise ValueError("key must be a secret of at least 16 bytes; received another")
    model = served.manifest["weights_sha256"].encode()
    return hmac.digest(key, model + b"\n" + content, _DIGEST)
