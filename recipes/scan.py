"""Turn commands into actions: encoder-decoder on SCAN (Lake & Baroni, 2018).

"jump twice and walk left" becomes "I_JUMP I_JUMP I_TURN_LEFT I_WALK". An answer counts only if
every action of it is right.
"""

import argparse
import time
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import keras
import numpy as np
from running import parse, safeguards

import rnnzoo
from rnnzoo.curves import learning_curve
from rnnzoo.data import Vocabulary, read_pairs, read_text

HERE = Path(__file__).resolve().parent


def arguments() -> tuple:
    """The parser, the options, and the scope for the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--data", type=Path, help="pairs, one 'source <tab> target' a line (default: SCAN, simple)")
    add("--test", type=Path, help="pairs to test on (default: every tenth of --data)")
    add("--units", type=int, default=128)
    add("--attention", choices=["none", "dot", "additive"], default="dot")
    add("--dropout", type=float, default=0.2)
    add("--epochs", type=int, default=12)
    add("--rate", type=float, default=4e-3, help="highest learning rate")
    add("--batch", type=int, default=64)
    add("--seed", type=int, default=0)
    return parser, *parse(parser)


def scan(name: str) -> tuple[list[str], list[str]]:
    """Commands and actions of one file of SCAN."""
    lines = read_text(HERE / "data" / "scan" / name).splitlines()
    both = [line.removeprefix("IN: ").split(" OUT: ") for line in lines]
    return [command for command, _ in both], [actions for _, actions in both]


parser, args, scope = arguments()
try:
    if args.data is None:
        train, test = scan("tasks_train_simple.txt.gz"), scan("tasks_test_simple.txt.gz")
    else:
        train = read_pairs(args.data)
        if args.test is None:
            kept = [[side[i] for i in range(len(side)) if i % 10] for side in train]
            train, test = kept, [side[::10] for side in train]
        else:
            test = read_pairs(args.test)
except (OSError, ValueError) as error:
    parser.error(f"--data: {error}")

keras.utils.set_random_seed(args.seed)
words = Vocabulary.from_text(" ".join(train[0]), level="word", unknown=True)
actions = Vocabulary.from_text(" ".join(train[1]), level="word")
batches = rnnzoo.data.pairs(
    [words.encode(source) for source in train[0]],
    [actions.encode(target) for target in train[1]],
    batch_size=args.batch,
    shuffle=True,
    seed=args.seed,
    pad_to_multiple_of=8,
)
updates = args.epochs * len(batches)
rate = keras.optimizers.schedules.CosineDecay(
    args.rate / 25, updates - updates // 5, warmup_target=args.rate, warmup_steps=updates // 5
)
with scope:
    model = rnnzoo.encoder_decoder(
        source_vocabulary=words,
        target_vocabulary=actions,
        units=args.units,
        attention=None if args.attention == "none" else args.attention,
        dropout=args.dropout,
    )
    model.compile(
        keras.optimizers.Adam(rate, global_clipnorm=5.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", rnnzoo.metrics.SequenceAccuracy()],
    )
model.summary()
begin = time.time()
history = model.fit(batches, epochs=args.epochs, verbose=2, callbacks=safeguards(args)).history
minutes = (time.time() - begin) / 60

begin = time.time()
longest = max(len(target.split()) for target in train[1] + test[1])
answers = model.generate(test[0], max_length=longest + 1, batch_size=256).text
seconds = time.time() - begin
right = np.array([answer == target for answer, target in zip(answers, test[1])])
for i in [*np.flatnonzero(~right)[:3], *np.flatnonzero(right)[:2]]:
    print(f"\ncommand  {test[0][i]}\nanswer   {answers[i]}")
    if not right[i]:
        print(f"right    {test[1][i]}")
picture = learning_curve(
    {"training": history["loss"]}, HERE / "output" / "scan.png", ylabel="nats per action"
)
print(f"\nlearning curve     {picture}")
print(f"training           {minutes:.1f} minutes, {model.count_params():,} parameters")
print(f"data               {len(train[0]):,} pairs to train, {len(test[0]):,} to test")
print(f"answers            {len(test[0]) / seconds:.0f} a second")
print(f"test               {100 * right.mean():.2f} % of the answers right in every action")
