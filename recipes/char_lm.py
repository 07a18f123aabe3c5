"""Train a character model with truncated BPTT, let it write, export it, serve it.

The text is one long sequence. It is cut into contiguous lanes that are read side by side; each
lane's state goes on from window to window, and gradients stop at the window's start.
"""

import argparse
import math
import subprocess
import sys
import time
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import keras
import numpy as np
from running import least_lanes, parse, safeguards

import rnnzoo
from rnnzoo.curves import learning_curve
from rnnzoo.data import read_text
from rnnzoo.decoding import Sample

HERE = Path(__file__).resolve().parent
PRESETS = {
    "demo": dict(
        units=256,
        layers=1,
        embedding=64,
        dropout=0.0,
        recurrent_dropout=0.0,
        window=64,
        lanes=64,
        epochs=6,
        rate=8e-3,
    ),
    "full": dict(
        units=512,
        layers=2,
        embedding=128,
        dropout=0.3,
        recurrent_dropout=0.0,
        window=50,
        lanes=64,
        epochs=12,
        rate=4e-3,
    ),
}


def arguments() -> tuple:
    """The parser, the options, with the preset's values where none were given, and the scope."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    default = HERE / "data/tinyshakespeare/input.txt.gz"
    add("--data", type=Path, default=default, help="a text in UTF-8, plain or .gz")
    add("--preset", choices=PRESETS, default="demo", help="demo: minutes; full: an hour or two")
    for name, value in PRESETS["demo"].items():
        option = f"--{name.replace('_', '-')}"
        add(option, type=type(value), help=f"instead of the preset's {name}")
    add("--seed", type=int, default=1)
    add("--temperature", type=float, default=0.7, help="of the text that is written")
    add("--characters", type=int, default=400, help="length of the text that is written")
    add("--name", default="char_lm", help="the export goes to saved_models/NAME/1")
    args, scope = parse(parser)
    for name, value in PRESETS[args.preset].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return parser, args, scope


parser, args, scope = arguments()
export_path = HERE.parent / "saved_models" / args.name / "1"
if export_path.exists() and not (export_path / "assets.extra/prompt_vocabulary.json").exists():
    parser.error(f"--name must be new or of this recipe; received {args.name}: {export_path}")
try:
    text = read_text(args.data)
except (OSError, ValueError) as error:
    parser.error(f"--data: {error}")
least = 20 * (args.lanes + args.window)
if len(text) < least:
    parser.error(f"--data must have at least {least} characters; received {len(text)}")
keras.utils.set_random_seed(args.seed)

# Data: the first 90 % of the characters teach, the last 10 % validate.
vocabulary = rnnzoo.data.Vocabulary.from_text(text)
train_ids, valid_ids = np.split(vocabulary.encode(text), [int(0.9 * len(text))])
train = rnnzoo.data.stream(train_ids, args.lanes, args.window, windows_per_batch=8)
# Sixteen lanes make the check after each epoch quick; the last one, below, has one lane.
valid = rnnzoo.data.stream(valid_ids, 16, math.ceil(len(valid_ids) / 64))

# Model: the learning rate rises in the first third of the updates, then falls to zero.
updates = args.epochs * math.ceil(train.steps / args.window)
rise = updates // 3
rate = keras.optimizers.schedules.CosineDecay(
    args.rate / 25, updates - rise, warmup_target=args.rate, warmup_steps=rise
)
nats = keras.losses.SparseCategoricalCrossentropy(
    from_logits=True, reduction="mean_with_sample_weight"
)
with scope:
    model = rnnzoo.one_to_one(
        vocabulary=vocabulary,
        units=[args.units] * args.layers,
        embedding=args.embedding,
        dropout=args.dropout,
        recurrent_dropout=args.recurrent_dropout,
    )
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0)
    model.compile(optimizer, nats, weighted_metrics=[rnnzoo.metrics.Perplexity()])
called = [rnnzoo.TruncatedBPTT(args.window), *safeguards(args)]
begin = time.time()
history = model.fit(train, validation_data=valid, epochs=args.epochs, callbacks=called).history
minutes = (time.time() - begin) / 60

# One lane: the state is carried through the whole validation text, from its first character.
whole = rnnzoo.data.stream(valid_ids, least_lanes(model), len(valid_ids) // 20)
perplexity = model.evaluate(whole, return_dict=True)["perplexity"]
prompt = "\n" if "\n" in vocabulary.tokens else text[0]
sampler = Sample(args.temperature, seed=args.seed)
written = model.generate(prompt, max_length=args.characters, sampler=sampler)
print(f"\n--- written at temperature {args.temperature} ---\n{written.text[0]}")

# Export, then serve from a new process that knows nothing of rnnzoo.
figures = {"nats per character, validation": math.log(perplexity)}
rnnzoo.export(model, export_path, overwrite=export_path.exists(), metrics=figures)
serve = [sys.executable, HERE / "serve_saved_model.py", export_path, "--prompt", prompt]
options = ["--temperature", str(args.temperature), "--characters", str(args.characters)]
subprocess.run([*serve, *options], check=True)

curves = {"training": history["perplexity"], "validation": history["val_perplexity"]}
curves = {name: np.log(values) for name, values in curves.items()}
picture = learning_curve(curves, HERE / "output" / f"{args.name}.png", ylabel="nats per character")
print(f"\nlearning curve         {picture}")
print(f"export                 {export_path}")
print(f"training               {minutes:.1f} minutes, {model.count_params():,} parameters")
print(f"validation             {math.log(perplexity):.4f} nats per character")
print(f"                       {math.log2(perplexity):.4f} bits per character")
print(f"                       {perplexity:.3f} perplexity")
