"""Tell how many cycles an engine has left: many-to-one, and streaming at every cycle.

Engines of C-MAPSS, set FD001 (Saxena et al., 2008), run until they fail. The model learns from
histories cut at many places; then it is fed cycle by cycle through `step`, as measurements arrive.
As is usual, more than 125 cycles left count as 125 in training; in the test all count.
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
from rnnzoo.curves import picture
from rnnzoo.data import read_text

HERE = Path(__file__).resolve().parent
FD001 = HERE.parent.parent / "shared" / "data" / "cmapss-fd001"
FILES = [FD001 / name for name in ("train_FD001.txt.gz", "test_FD001.txt.gz", "RUL_FD001.txt")]
FIRST, COLUMNS = 5, 26  # engine, cycle, three settings, and then the sensors


def arguments() -> tuple:
    """The parser, the options, and the scope for the model."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    text = "tables of C-MAPSS: engines that failed, others, and the cycles that those had left"
    add("--data", type=Path, nargs=3, metavar=("TRAIN", "TEST", "LEFT"), default=FILES, help=text)
    add("--validation", type=int, default=20, help="engines that validate instead of training")
    add("--every", type=int, default=5, help="cycles from one cut of a history to the next")
    add("--cap", type=int, default=125, help="the most cycles left in training")
    add("--window", type=int, default=30, help="last cycles that the ridge regression reads")
    add("--seeds", type=int, default=3, help="number of models, whose mean is the answer")
    add("--epochs", type=int, default=20)
    add("--units", type=int, nargs="+", default=[64, 64])
    add("--dropout", type=float, default=0.2)
    add("--rate", type=float, default=3e-3, help="highest learning rate")
    add("--batch", type=int, default=64, help="histories in a batch")
    return parser, *parse(parser)


def read_engines(path: Path) -> list[np.ndarray]:
    """The sensors `(cycles, sensors)` of each engine."""
    engines = {}
    for number, line in enumerate(read_text(path).strip().splitlines(), start=1):
        try:
            engine, *values = np.array(line.split(), float).reshape(COLUMNS)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: must be {COLUMNS} numbers") from error
        engines.setdefault(engine, []).append(values[FIRST - 1 :])
    return [np.array(rows) for rows in engines.values()]


def cut(engines: list[np.ndarray], first: int = 1) -> tuple[list[np.ndarray], np.ndarray]:
    """Histories up to every few cycles from `first` on, and the cycles then left, capped."""
    found = [(x[:n], len(x) - n) for x in engines for n in range(first, len(x) + 1, args.every)]
    histories, left = zip(*found)
    return list(histories), np.minimum(left, args.cap).astype("float32")


def last(histories: list[np.ndarray]) -> np.ndarray:
    """The last window of each history and a one; the first cycle stands for those before it."""
    rows = [np.concatenate([x[:1].repeat(args.window, 0), x])[-args.window :] for x in histories]
    return np.column_stack([np.reshape(rows, (len(rows), -1)), np.ones(len(rows))])


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The root of the mean squared error, in cycles."""
    return float(np.sqrt(np.mean((found - wanted) ** 2)))


def streamed(model: keras.Model, engine: np.ndarray) -> np.ndarray:
    """The cycles left at every cycle, of an engine whose cycles come one by one."""
    state, found = model.initial_state(1), []
    for cycle in engine:
        y, state = model.step(cycle[None, None], state)
        found.append(keras.ops.convert_to_numpy(y).item() * args.cap)
    return np.array(found)


parser, args, scope = arguments()
try:
    engines, test = (read_engines(path) for path in args.data[:2])
    truth = np.array(read_text(args.data[2]).split(), "float32")
    if len(truth) != len(test) or not 0 < args.validation < len(engines):
        sizes = f"{len(truth)} numbers, {len(test)} engines, --validation {args.validation}"
        raise ValueError(f"each engine must have its number, and some must train; received {sizes}")
except (OSError, ValueError) as fault:
    absent = args.data == FILES and not FILES[0].exists()
    parser.error("C-MAPSS is not bundled: give --data" * absent or f"--data: {fault}")
engines = [engines[i] for i in np.random.default_rng(0).permutation(len(engines))]
cycles = np.concatenate(engines[args.validation :])
moving = np.ptp(cycles, axis=0) > 0
mean, deviation = cycles[:, moving].mean(axis=0), cycles[:, moving].std(axis=0)
engines, test = ([(x[:, moving] - mean) / deviation for x in part] for part in (engines, test))
valid, train = cut(engines[: args.validation], args.window), cut(engines[args.validation :])
known = rnnzoo.data.bucket(valid[0], valid[1] / args.cap, batch_size=256)
asked = rnnzoo.data.bucket([*valid[0], *test], batch_size=256)
longest = max(range(len(test)), key=lambda i: len(test[i]))
choices, x = [], last(train[0])  # the regression's strength is chosen by the validation
for strength in 10.0 ** np.arange(6):
    weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ train[1])
    choices.append([last(part) @ weights for part in (valid[0], test)])
ridge = min(choices, key=lambda told: error(told[0], valid[1]))

answers, begin = [], time.time()
for seed in range(args.seeds):
    keras.utils.set_random_seed(seed)
    options = {"batch_size": args.batch, "shuffle": True, "seed": seed}
    data = rnnzoo.data.bucket(train[0], train[1] / args.cap, **options)
    rate = keras.optimizers.schedules.CosineDecay(args.rate, args.epochs * len(data))
    options = {"units": args.units, "dropout": args.dropout}
    with scope:
        model = rnnzoo.many_to_one(features=len(mean), outputs=1, **options)
        model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), "mse")
    print(f"\nseed {seed}")
    options = {"epochs": args.epochs, "callbacks": safeguards(args, f"seed {seed}"), "verbose": 2}
    model.fit(data, validation_data=known, **options)
    told = model.predict(asked, verbose=0)[:, 0] * args.cap
    answers.append(np.split(told, [len(valid[0])]))
minutes, found = (time.time() - begin) / 60, streamed(model, test[longest])


def draw(figure) -> None:
    """What the model says of an engine at every cycle, and what was true."""
    axes = figure.add_subplot(xlabel="cycle", ylabel="cycles left")
    axes.plot(np.arange(len(found))[::-1] + truth[longest], color="black", label="truth")
    axes.plot(found, label="told at this cycle")
    axes.legend()


print(f"\nan engine          {picture(draw, HERE / 'output' / 'remaining_life.png')}")
print(f"training           {minutes:.1f} minutes, {model.count_params():,} parameters a model")
print(f"data               {len(train[0]):,} histories of {len(engines) - args.validation} engines")
print(f"streamed           {len(found)} cycles, {found[-1]:.3f} left")
print(f"read at once       {len(found)} cycles, {answers[-1][1][longest]:.3f} left")
print("\nroot mean squared error in cycles: test, test with a cap as in training, validation")
answers = [[np.mean(part, axis=0) for part in zip(*answers)], *answers, ridge]
labels = ["mean of the models", *(f"  seed {i}" for i in range(args.seeds)), "ridge regression"]
for name, (told, asked) in zip(labels, answers):
    errors = error(asked, truth), error(asked, np.minimum(truth, args.cap)), error(told, valid[1])
    print(f"{name:18} {'  '.join(f'{one:.2f}' for one in errors)}")
