"""Decoding speed: the loop inside the graph against calling the step from Python.

Both run the same model on the same prompt and give the same tokens. The ratio is what a user
gains who would write the loop by hand. Growth with length and with the width of the beam is
measured beside it.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

import rnnzoo
from rnnzoo.decoding import Beam


def seconds(call, repeats: int) -> float:
    """The median time of a call, after one that compiles."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def greedy_by_hand(model, prompt: np.ndarray, length: int) -> np.ndarray:
    """Greedy tokens, one call of `model.step` for each."""
    logits, state = model.step(prompt, model.initial_state(len(prompt)))
    tokens = []
    for _ in range(length):
        token = np.argmax(keras.ops.convert_to_numpy(logits)[:, -1], axis=-1)[:, None]
        tokens.append(token)
        logits, state = model.step(token, state)
    return np.concatenate(tokens, axis=1)


def beam_by_hand(model, prompt: np.ndarray, length: int, width: int) -> np.ndarray:
    """The best of a beam search over one row, one call of `model.step` for each token."""
    logits, state = model.step(prompt, model.initial_state(1))
    tokens, scores = np.zeros((1, 0), int), np.zeros(1)
    for _ in range(length):
        logs = keras.ops.convert_to_numpy(keras.ops.log_softmax(logits[:, -1]))
        total = scores[:, None] + logs
        best = np.argsort(-total, axis=None, kind="stable")[:width]
        parent, token = np.divmod(best, logs.shape[1])
        scores = total.ravel()[best]
        tokens = np.concatenate([tokens[parent], token[:, None]], axis=1)
        state = {k: keras.ops.convert_to_numpy(v)[parent] for k, v in state.items()}
        logits, state = model.step(token[:, None], state)
    return tokens[:1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=65)
    parser.add_argument("--length", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = rnnzoo.one_to_one(vocabulary=args.vocabulary, units=args.units)
    for variable in model.trainable_variables:  # far from uniform, as after training
        variable.assign(3 * variable)
    prompt, length, found = np.array([[1, 2, 3]]), args.length, {}

    def run(sampler, length: int) -> np.ndarray:
        return model.generate(prompt, max_length=length, sampler=sampler).tokens

    contestants = {
        "greedy": (lambda: run("greedy", length), lambda: greedy_by_hand(model, prompt, length)),
        "beam 5": (lambda: run(Beam(5), length), lambda: beam_by_hand(model, prompt, length, 5)),
    }
    print(f"{keras.backend.backend()}, 1x{args.units} LSTM, batch 1, {length} tokens")
    for name, (graph, hand) in contestants.items():
        np.testing.assert_array_equal(graph().reshape(-1), hand().reshape(-1))
        pair = seconds(graph, args.repeats), seconds(hand, args.repeats)
        found[name] = {"graph_s": pair[0], "python_s": pair[1], "ratio": pair[1] / pair[0]}
        print(
            f"{name:8} {1e6 * pair[0] / length:8.0f} us a token in the graph, "
            f"{1e6 * pair[1] / length:8.0f} from Python: {pair[1] / pair[0]:.1f} times faster"
        )
    for name, samplers in (
        ("greedy", {n: "greedy" for n in (1, 4, 16)}),
        ("beam 5", {n: Beam(5) for n in (1, 4, 16)}),
    ):
        times = {n: seconds(lambda: run(s, n * length), args.repeats) for n, s in samplers.items()}
        found[f"{name}, by length"] = {n * length: t for n, t in times.items()}
        shown = ", ".join(f"{n * length}: {1e6 * t / n / length:.0f}" for n, t in times.items())
        print(f"{name}, us a token by length   {shown}")
    times = {w: seconds(lambda: run(Beam(w), length), args.repeats) for w in (1, 2, 5, 10, 20)}
    found["by width"] = times
    print("us a token by width   ", {w: round(1e6 * t / length) for w, t in times.items()})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
