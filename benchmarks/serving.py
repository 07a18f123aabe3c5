"""Time of one served step, at batch 1 or more, by format, beside PyTorch's `nn.LSTM`.

Every format runs the same model: token in, logits and state out, the state fed back as a service
does. "empty signature" is a SavedModel with the same inputs that only hands them back: what
TensorFlow itself takes for a call. Median and 99th percentile in microseconds, of all rounds, in
which the formats take turns. PyTorch is measured where it is installed.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

import rnnzoo
from rnnzoo.export.signatures import recurrent_signatures
from rnnzoo.export.traced import specs_of

VOCABULARY = 65
SIZES = {"1x128": [128], "2x512": [512, 512]}


def in_memory(model, folder, rows):
    def step(state):
        outputs, state = model.step(token, state)
        np.asarray(outputs)  # JAX answers before it has computed
        return state

    token = np.full((rows, 1), 3, "int32")
    return step, model.initial_state(rows)


def saved_model(model, folder, rows):
    signatures = tf.saved_model.load(str(model.export(folder / "tf" / "1"))).signatures
    token, reset = tf.fill([rows, 1], 3), tf.fill([rows, 1], False)

    def step(state):
        found = signatures["step"](inputs=token, reset=reset, **state)
        return {name: found[f"{name}_out"] for name in state}

    return step, signatures["initial_state"](like=tf.fill([rows], 0))


def empty_signature(model, folder, rows):
    specs = specs_of(recurrent_signatures(model, None)["step"])

    def same(batch):
        return {f"{key}_out": tf.identity(value) for key, value in batch.items()}

    call = tf.function(same, input_signature=[specs])
    tf.saved_model.save(tf.Module(), str(folder / "empty"), signatures=call)
    call = tf.saved_model.load(str(folder / "empty")).signatures["serving_default"]
    token, reset = tf.fill([rows, 1], 3), tf.fill([rows, 1], False)
    state = {key: tf.constant(value) for key, value in model.initial_state(rows).items()}

    def step(state):
        found = call(inputs=token, reset=reset, **state)
        return {name: found[f"{name}_out"] for name in state}

    return step, state


def fed(model, rows) -> tuple[dict, dict]:
    token = {"inputs": np.full((rows, 1), 3, "int32"), "reset": np.full((rows, 1), False)}
    return token, {key: np.array(value) for key, value in model.initial_state(rows).items()}


def onnx(model, folder, rows):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count()
    file = str(model.export(folder / "onnx" / "1", "onnx") / "step.onnx")
    session = onnxruntime.InferenceSession(file, options)
    token, state = fed(model, rows)
    names = [f"{name}_out" for name in state]

    def step(state):
        _, *new = session.run(["outputs", *names], {**token, **state})
        return dict(zip(state, new))

    return step, state


def litert(model, folder, rows):
    from ai_edge_litert.interpreter import Interpreter

    if rows > 1:
        raise NotImplementedError("a LiteRT step is for batch 1")
    file = str(model.export(folder / "litert" / "1", "litert") / "step.tflite")
    run = Interpreter(model_path=file, num_threads=os.cpu_count()).get_signature_runner("step")
    token, state = fed(model, rows)

    def step(state):
        found = run(**token, **state)
        return {name: found[f"{name}_out"] for name in state}

    return step, state


def torch_step(units: list[int], script: bool, rows: int):
    import torch

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(VOCABULARY, units[0])
            self.lstm = torch.nn.LSTM(units[0], units[0], len(units), batch_first=True)
            self.out = torch.nn.Linear(units[0], VOCABULARY)

        def forward(self, token, h, c):
            hidden, (h, c) = self.lstm(self.table(token), (h, c))
            return self.out(hidden), h, c

    torch.set_num_threads(os.cpu_count())
    model = Model().eval()
    zeros = torch.zeros(len(units), rows, units[0])
    token = torch.full((rows, 1), 3)
    run = torch.jit.trace(model, (token, zeros, zeros)) if script else model

    def step(state):
        with torch.inference_mode():
            _, h, c = run(token, *state)
        return h, c

    return step, (zeros, zeros)


def times(step, state, steps: int) -> list[float]:
    """Seconds of each of `steps` steps, after some that warm up."""
    for _ in range(50):
        state = step(state)
    found = []
    for _ in range(steps):
        begin = time.perf_counter()
        state = step(state)
        found.append(time.perf_counter() - begin)
    return found


def made(units: list[int], folder: Path, rows: int) -> dict[str, tuple]:
    """By name, a step and its first state, of every contestant that is installed."""
    model = rnnzoo.one_to_one(vocabulary=VOCABULARY, units=units)
    ways = {
        "model.step": lambda: in_memory(model, folder, rows),
        "SavedModel": lambda: saved_model(model, folder, rows),
        "empty signature": lambda: empty_signature(model, folder, rows),
        "ONNX": lambda: onnx(model, folder, rows),
        "LiteRT": lambda: litert(model, folder, rows),
        "PyTorch eager": lambda: torch_step(units, False, rows),
        "PyTorch jit": lambda: torch_step(units, True, rows),
    }
    contestants = {}
    for name, make in ways.items():
        try:
            contestants[name] = make()
        except (ImportError, NotImplementedError) as error:
            print(f"{name}: left out, {error}")
    return contestants


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500, help="in a round")
    parser.add_argument("--batch", type=int, default=1, help="rows of a step")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args()
    table: dict[str, dict] = {}
    for size, units in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            contestants = made(units, Path(folder), args.batch)
            seconds = {name: [] for name in contestants}
            for _ in range(args.rounds):
                for name, contestant in contestants.items():
                    seconds[name] += times(*contestant, args.steps)
        for name, found in seconds.items():
            percentiles = np.percentile(found, (50, 99)) * 1e6
            table.setdefault(name, {})[size] = percentiles.tolist()
    if args.json:
        print(json.dumps(table))
        return
    print(f"{'microseconds a step':20}" + "".join(f"{size:>22}" for size in SIZES))
    for name, row in table.items():
        cells = (f"{median:.0f} (99 %: {tail:.0f})" for median, tail in row.values())
        print(f"{name:20}" + "".join(f"{cell:>22}" for cell in cells))
    if args.batch > 1:
        print(f"\n{'rows a second':20}" + "".join(f"{size:>22}" for size in SIZES))
        for name, row in table.items():
            rates = (args.batch / median * 1e6 for median, _ in row.values())
            print(f"{name:20}" + "".join(f"{rate:22,.0f}" for rate in rates))


if __name__ == "__main__":
    main()
