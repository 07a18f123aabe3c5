"""Tell which of nine men speaks: many-to-one on sequences of 7 to 29 steps.

Sequences differ in length. `rnnzoo.data.bucket` puts like lengths into a batch, pads them and
says by a mask which steps are real; the model's answer is that of the last real step.
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
from rnnzoo.data import read_csv, read_text

HERE = Path(__file__).resolve().parent
TRAIN_COUNTS = [30] * 9
TEST_COUNTS = [31, 35, 88, 44, 29, 24, 40, 50, 29]


def arguments() -> tuple:
    """The parser, the options, and the scope for the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        help="a CSV with the columns sequence, step, label, features...; every fourth sequence "
        "of each label is kept for the test (default: Japanese Vowels, with its own test set)",
    )
    add("--seeds", type=int, default=3, help="number of models, each from another seed")
    add("--epochs", type=int, default=60)
    add("--units", type=int, default=100)
    add("--cell", choices=["lstm", "gru", "simple_rnn"], default="lstm")
    add("--dropout", type=float, default=0.4)
    add("--rate", type=float, default=4e-3, help="highest learning rate")
    add("--batch", type=int, default=16, help="sequences in a batch")
    return parser, *parse(parser)


def vowels(name: str, counts: list[int]) -> tuple[list[np.ndarray], np.ndarray]:
    """Utterances `(steps, 12)` and speakers; a blank line ends an utterance."""
    blocks = read_text(HERE / "data" / "japanese-vowels" / name).strip().split("\n\n")
    sequences = [np.array([line.split() for line in b.split("\n")], "float32") for b in blocks]
    return sequences, np.repeat(np.arange(9), counts)


def own(path: Path) -> tuple[list, np.ndarray, list, np.ndarray, list[str]]:
    """Training and test sequences and labels of a CSV, and the labels' names."""
    table = read_csv(path, label=True)
    names, labels = np.unique(table.labels, return_inverse=True)
    if len(names) < 2 or np.bincount(labels).min() < 4:
        raise ValueError(
            f"{path} must have two labels or more, and four sequences or more of each; "
            f"received {dict(zip(names.tolist(), np.bincount(labels).tolist()))}"
        )
    test = np.zeros(len(labels), bool)
    for label in range(len(names)):
        test[np.flatnonzero(labels == label)[3::4]] = True
    parts = [([table.sequences[i] for i in np.flatnonzero(k)], labels[k]) for k in (~test, test)]
    return (*parts[0], *parts[1], names.tolist())


parser, args, scope = arguments()
if args.data is None:
    names = [f"speaker {i}" for i in range(1, 10)]
    x_train, y_train = vowels("ae.train.gz", TRAIN_COUNTS)
    x_test, y_test = vowels("ae.test.gz", TEST_COUNTS)
else:
    try:
        x_train, y_train, x_test, y_test, names = own(args.data)
    except (OSError, ValueError) as error:
        parser.error(f"--data: {error}")

# Every feature gets mean 0 and deviation 1, by the training data.
steps = np.concatenate(x_train)
mean, deviation = steps.mean(axis=0), steps.std(axis=0) + 1e-6
x_train, x_test = ([(x - mean) / deviation for x in part] for part in (x_train, x_test))
test = rnnzoo.data.bucket(x_test, y_test, batch_size=64, pad_to_multiple_of=16)

histories, accuracies = [], []
begin = time.time()
for seed in range(args.seeds):
    keras.utils.set_random_seed(seed)
    train = rnnzoo.data.bucket(
        x_train, y_train, batch_size=args.batch, shuffle=True, seed=seed, pad_to_multiple_of=16
    )
    updates = args.epochs * len(train)
    rise = updates // 5
    rate = keras.optimizers.schedules.CosineDecay(
        args.rate / 25, updates - rise, warmup_target=args.rate, warmup_steps=rise
    )
    with scope:
        model = rnnzoo.many_to_one(
            features=len(mean),
            units=args.units,
            outputs=len(names),
            cell=args.cell,
            dropout=args.dropout,
        )
        model.compile(
            keras.optimizers.Adam(rate, global_clipnorm=1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    print(f"\nseed {seed}")
    called = safeguards(args, f"seed {seed}")
    histories.append(model.fit(train, epochs=args.epochs, callbacks=called).history)
    accuracies.append(model.evaluate(test, verbose=0, return_dict=True)["accuracy"])
minutes = (time.time() - begin) / 60

curves = {f"seed {seed}": history["loss"] for seed, history in enumerate(histories)}
picture = learning_curve(curves, HERE / "output" / "speaker.png", ylabel="nats per sequence")
print(f"\nlearning curves    {picture}")
print(
    f"training           {minutes:.1f} minutes, {args.seeds} models of "
    f"{model.count_params():,} parameters"
)
print(f"data               {len(x_train)} sequences to train, {len(x_test)} to test")
for seed, accuracy in enumerate(accuracies):
    print(f"test, seed {seed}       {100 * accuracy:.2f} % right")
print(f"test, mean         {100 * np.mean(accuracies):.2f} % right")
