"""Serve an export to many at once: each connection is a stream with a state of its own.

WebSocket /stream takes the messages of rnnzoo.serving.Conversation. Over HTTP, POST /streams opens
a stream, POST /streams/ID takes one message, DELETE /streams/ID closes it; /openapi.json describes
it. / is a page to write on. SIGTERM ends the service in order: states are handed out as tokens.
"""

import argparse
import secrets
import sys
import time
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import rnnzoo
from rnnzoo.serving import Batcher, Conversations, Keys, Limits, SpentSeals
from rnnzoo.serving.service import Service

PAGE = Path(__file__).resolve().with_name("serve.html")
parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("path", type=Path, help="an export that you trust: saved_models/char_lm/1")
parser.add_argument("--host", default="127.0.0.1", help="where to listen: this machine alone")
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--allow-host", action="append", default=[], help="a name it is called by")
parser.add_argument("--allow-origin", action="append", default=[], help="a page that may use it")
parser.add_argument("--proxy", action="append", default=[], help="address of a proxy in front")
parser.add_argument("--status", action="store_true", help="show /healthz and /metrics")
parser.add_argument("--delay", type=float, default=0.0, help="seconds to gather steps for")
parser.add_argument("--max-streams", type=int, default=1000)
parser.add_argument("--max-per-client", type=int, default=200, help="streams of one address")
parser.add_argument("--max-steps", type=int, default=1000, help="in one message")
parser.add_argument("--max-numbers", type=int, default=1 << 18, help="in one answer")
parser.add_argument("--max-bytes", type=int, default=Limits.bytes, help="of one message")
parser.add_argument("--idle", type=float, default=300, help="seconds; then a stream is dropped")
parser.add_argument("--request", type=float, default=Limits.request, help="seconds to send one in")
parser.add_argument("--send", type=float, default=Limits.send, help="seconds to read answers in")
parser.add_argument("--grace", type=float, default=Limits.grace, help="seconds, when it ends")
parser.add_argument("--key", type=Path, help="file with the secret of saved states")
parser.add_argument("--old-key", type=Path, action="append", default=[], help="an earlier one")
parser.add_argument("--old-key-hours", type=float, default=24, help="that old ones are accepted")
parser.add_argument("--token-hours", type=float, help="that a token lasts; for ever unless told")
parser.add_argument("--once", type=Path, help="file of tokens that were used: none is used twice")
args = parser.parse_args()
try:
    served = rnnzoo.load_served(args.path)
    if "encode" in served.signatures:
        raise ValueError("path must be a one-to-one or many-to-one model; received a pair")
    keys = Keys(
        args.key.read_bytes() if args.key else secrets.token_bytes(32),
        old=[path.read_bytes() for path in args.old_key],
        until=time.time() + args.old_key_hours * 3600,
        lifetime=args.token_hours and args.token_hours * 3600,
        spent=SpentSeals(args.once) if args.once else None,
    )
    clients = Conversations(
        Batcher(served, args.delay),
        keys,
        vocabulary=served.vocabularies.get("prompt"),
        limit=args.max_streams,
        limit_per_client=args.max_per_client,
        idle=args.idle,
        max_steps=args.max_steps,
        max_numbers=args.max_numbers,
    )
    limits = Limits(
        bytes=args.max_bytes,
        connections=2 * args.max_streams + 100,
        connections_per_client=args.max_per_client + 50,
        idle=args.idle,
        request=args.request,
        send=args.send,
        grace=args.grace,
    )
    service = Service(
        clients,
        limits,
        hosts=[args.host, *args.allow_host],
        origins=args.allow_origin,
        proxies=args.proxy,
        page=PAGE,
        status=args.status,
    )
    host = f"[{args.host}]" if ":" in args.host else args.host
    print(f"http://{host}:{args.port}", file=sys.stderr)
    if args.key is None:
        print("saved states end with this process: give a file with --key", file=sys.stderr)
    service.run(args.host, args.port)
except (OSError, ValueError) as error:
    parser.error(str(error))
