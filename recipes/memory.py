"""Remember a sign through a corridor: an agent with a recurrent network, trained from replay.

A T-maze (Bakker, 2002): a sign at the start says north or south, a corridor without signs leads
to a junction, and there the agent must turn to where the sign said. It learns by Q-learning from
segments of its past, kept with the states that they began with, which their first steps only bring
up to date (stored state and burn-in: Kapturowski et al., 2019). Mazes run in one batch, each reset
when it ends. Beside it stands an agent without memory: the same, but reset at every step.
"""

import argparse
import time
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import keras
import numpy as np
from keras import ops

import rnnzoo
from rnnzoo.curves import learning_curve

PICTURE = Path(__file__).resolve().parent / "output" / "memory.png"
OPTIONS = (
    ("corridor", 10, "steps from the sign to the junction"),
    ("rounds", 120, "rounds of playing and learning"),
    ("mazes", 32, "mazes that are played at a time"),
    ("units", 32, "size of the LSTM"),
    ("steps", 40, "steps of a segment"),
    ("burn-in", 10, "first steps of a segment that are not trained"),
    ("seed", 0, "of weights, mazes and replay"),
)
NORTH, EAST, SOUTH, WEST = range(4)
DISCOUNT, TRACE, KEPT, DRAWN, RENEWED = 0.98, 0.8, 60, 4, 10  # the last three count rounds


class Mazes:
    """T-mazes side by side, each at a place and a time of its own."""

    def __init__(self, rows: int, random: np.random.Generator):
        self.random, self.north = random, random.random(rows) < 0.5
        self.place, self.time = np.zeros((2, rows), int)

    def seen(self) -> np.ndarray:
        """What is seen in each: the sign, north or south, the corridor, the junction."""
        start, end = self.place == 0, self.place == args.corridor
        return np.stack([start & self.north, start & ~self.north, ~(start | end), end], 1) * 1.0

    def act(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rewards, whether each maze is over, and whether it was solved; those over begin anew."""
        turned = (self.place == args.corridor) & np.isin(action, (NORTH, SOUTH))
        solved = turned & ((action == NORTH) == self.north)
        place = np.clip(self.place + (action == EAST) - (action == WEST), 0, args.corridor)
        reward = np.where(solved, 4.0, np.where(place == self.place, -0.1, 0.0))
        over = turned | (self.time >= 5 * args.corridor)
        self.place, self.time = np.where(over, 0, place), np.where(over, 0, self.time + 1)
        self.north = np.where(over, self.random.random(len(over)) < 0.5, self.north)
        return reward, over, solved


def play(model, mazes: Mazes, begun: tuple, epsilon: np.ndarray, steps: int, forget: bool) -> tuple:
    """A segment of each maze, and with what the next begins: states, and which mazes are new."""
    state, reset = begun
    told = {"state": {name: ops.convert_to_numpy(values) for name, values in state.items()}}
    parts, names = [], ("inputs", "reset", "action", "reward", "over", "solved")
    for _ in range(steps):
        seen, reset = mazes.seen(), np.broadcast_to(reset | forget, mazes.place.shape)
        worth, state = model.step(seen[:, None], state, reset[:, None])
        best = ops.convert_to_numpy(worth)[:, 0].argmax(axis=-1)
        chance = mazes.random.random(len(best)) < epsilon
        action = np.where(chance, mazes.random.integers(0, 4, len(best)), best)
        parts.append((seen, reset, action, *mazes.act(action)))
        reset = parts[-1][4]
    return told | {k: np.stack(v, axis=1) for k, v in zip(names, zip(*parts))}, (state, reset)


def returns(model, target, told: dict) -> np.ndarray:
    """What each action was worth, as far as a segment tells: Q(lambda), of double Q-learning."""
    given = told["inputs"], told["state"], told["reset"]
    now, then = (ops.convert_to_numpy(one.step(*given)[0]) for one in (model, target))
    best = np.take_along_axis(then, now.argmax(-1)[..., None], -1)[..., 0]
    found, worth = best.copy(), best[:, -1]
    for t in reversed(range(best.shape[1] - 1)):
        ahead = (1 - TRACE) * best[:, t + 1] + TRACE * worth
        worth = found[:, t] = told["reward"][:, t] + DISCOUNT * ~told["over"][:, t] * ahead
    return found


def error(y, worth):
    """The squared error of the action that was taken; `y` holds it and what it was worth."""
    taken = ops.one_hot(ops.cast(y[..., 0], "int32"), 4)
    return ops.square(ops.sum(taken * worth, axis=-1) - y[..., 1])


def learn(forget: bool) -> tuple:
    """A trained agent, and of each round the share of the mazes that ended solved."""
    keras.utils.set_random_seed(args.seed)
    random, memory, shares = np.random.default_rng(args.seed), [], []
    model, target = (rnnzoo.one_to_one(features=4, units=args.units, outputs=4) for _ in "ab")
    model.compile(keras.optimizers.Adam(2e-3, global_clipnorm=1.0), error)
    mazes, begun = Mazes(args.mazes, random), (model.initial_state(args.mazes), True)
    epsilon = 0.5 ** np.linspace(1, 6, args.mazes)
    for number in range(args.rounds):
        told, begun = play(model, mazes, begun, epsilon, args.steps, forget)
        memory = [*memory, told][-KEPT:]
        shares.append(told["solved"].sum() / max(1, told["over"].sum()))
        target.set_weights((target if number % RENEWED else model).get_weights())
        drawn = (memory[i] for i in random.integers(0, len(memory), DRAWN))
        drawn = keras.tree.map_structure(lambda *rows: np.concatenate(rows), *drawn)
        y = np.stack([drawn["action"], returns(model, target, drawn)], axis=-1)
        weight = y[..., 0] * 0 + (np.arange(args.steps) < args.steps - 1)  # the last has no next
        x = {name: drawn[name] for name in ("inputs", "reset", "state")}
        model.fit(x, y, args.mazes, verbose=0, sample_weight=weight, callbacks=[windows])
    return model, shares


def largest_difference(model, told: dict) -> float:
    """Between a batch, whose rows were reset each at its own times, and sequences run alone."""
    x, reset, found = told["inputs"], told["reset"], 0.0
    together = model.predict({"inputs": x, "reset": reset}, len(x), verbose=0)
    for row, start in np.argwhere(reset)[:100]:
        length = np.argmax([*reset[row, start + 1 :], True]) + 1
        alone = np.zeros_like(x[:1])  # of one length, so that it is compiled once
        alone[0, :length] = x[row, start : start + length]
        worth = ops.convert_to_numpy(model.step(alone, model.initial_state(1))[0])[0]
        found = max(found, np.abs(worth[:length] - together[row, start:][:length]).max())
    return found


parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
for name, default, text in OPTIONS:
    parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")
args = parser.parse_args()
if min(*list(vars(args).values())[:4], args.steps - args.burn_in - 1) < 1 or args.burn_in < 0:
    parser.error(f"sizes must be positive, and burn-in leave 2 steps; received {vars(args)}")
windows = rnnzoo.TruncatedBPTT(args.steps - args.burn_in, burn_in=args.burn_in)
begin, curves = time.time(), {}
for name, forget in (("with memory", False), ("without memory", True)):
    model, curves[name] = learn(forget)
    mazes = Mazes(200, np.random.default_rng(args.seed + 1))
    told, _ = play(model, mazes, (model.initial_state(200), True), 0, 10 * args.corridor, forget)
    share = told["solved"].sum() / max(1, told["over"].sum())
    print(f"{name:15} {100 * share:.1f} % of {told['over'].sum():,} new mazes solved")
    differ = largest_difference(model, told)
    print(f"{'':15} reset by rows in a batch against rows alone: {differ:.0e} at most")
picture = learning_curve(curves, PICTURE, ylabel="share of mazes solved")
print(f"training        {(time.time() - begin) / 60:.1f} minutes, {picture}")
