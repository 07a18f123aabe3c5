"""One contestant of the generation benchmark, in a process of its own: prints one JSON object.

A contestant is a function `(case, length) -> write`, and `write()` gives what must be the same in
all: the `(rows, length)` tokens after the prompt; of beams the log-probability of each row's best.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import cases
from benchmarks.clock import CORES, now

VOCABULARY, REPEATS = 65, 5
SHARP = 3.0  # random weights times this: far from uniform, as after training


class Writing(NamedTuple):
    """A model and the way it writes.

    Attributes:
        units: sizes of the LSTM layers, all equal; that of the embedding too.
        rows: prompts that are continued together.
        width: of the beam; 0 for greedy.
    """

    units: list[int]
    rows: int
    width: int

    @property
    def weights(self) -> list[np.ndarray]:
        """Embedding, LSTM layers and output layer, in Keras's layout."""
        size, v = self.units, VOCABULARY
        case = cases.Case(v, 0, size[0], size, v, lanes=1, window=1, windows=1)
        return [SHARP * weight for weight in cases.weights(case)]

    @property
    def prompt(self) -> np.ndarray:
        """Three tokens for each row, others in each."""
        return np.random.default_rng(2).integers(0, VOCABULARY, (self.rows, 3), dtype="int32")


CASES = {
    "greedy, 1x256": Writing([256], 1, 0),
    "greedy, 2x512": Writing([512, 512], 1, 0),
    "beam 5, 1x256": Writing([256], 1, 5),
    "beam 5, 1x256, 16 rows": Writing([256], 16, 5),
}


def rnnzoo_model(case: Writing) -> Any:
    import rnnzoo

    sizes = {"vocabulary": VOCABULARY, "embedding": case.units[0], "units": case.units}
    model = rnnzoo.one_to_one(**sizes)
    model.core.set_weights(case.weights)
    return model


def rnnzoo_loop(case: Writing, length: int) -> Callable:
    import rnnzoo

    model, prompt = rnnzoo_model(case), case.prompt
    if not case.width:
        return lambda: model.generate(prompt, max_length=length).tokens
    beam = rnnzoo.decoding.Beam(case.width)
    return lambda: model.generate(prompt, max_length=length, sampler=beam).scores[:, 0]


def onnx_loop(case: Writing, length: int) -> Callable:
    """Greedy alone: a beam's order would be NumPy's work, not onnxruntime's."""
    import onnxruntime

    model, prompt = rnnzoo_model(case), case.prompt
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    with tempfile.TemporaryDirectory() as folder:
        file = model.export(os.path.join(folder, "1"), "onnx") / "step.onnx"
        session = onnxruntime.InferenceSession(str(file), options)
    start = {key: np.array(value) for key, value in model.initial_state(case.rows).items()}
    names = ["outputs", *(f"{key}_out" for key in start)]
    reset = np.zeros((case.rows, 1), bool)

    def write() -> np.ndarray:
        state, written = start, []
        given = list(prompt.T[:, :, None])
        while len(written) < length:
            token = given.pop(0) if given else written[-1]
            logits, *new = session.run(names, {"inputs": token, "reset": reset, **state})
            state = dict(zip(start, new))
            if not given:
                written.append(logits[:, -1].argmax(axis=-1).astype("int32")[:, None])
        return np.concatenate(written, axis=1)

    return write


def torch_loop(case: Writing, length: int) -> Callable:
    import torch

    torch.set_num_threads(CORES)
    units, queue = case.units, iter(case.weights)
    table = torch.nn.Embedding(VOCABULARY, units[0])
    lstm = torch.nn.LSTM(units[0], units[0], len(units), batch_first=True)
    out = torch.nn.Linear(units[0], VOCABULARY)
    with torch.no_grad():
        table.weight.copy_(torch.tensor(next(queue)))
        for layer in range(len(units)):
            for name in ("weight_ih", "weight_hh", "bias_ih"):
                getattr(lstm, f"{name}_l{layer}").copy_(torch.tensor(next(queue).T))
            getattr(lstm, f"bias_hh_l{layer}").zero_()
        out.weight.copy_(torch.tensor(next(queue).T))
        out.bias.copy_(torch.tensor(next(queue)))
    prompt, rows, width = torch.tensor(case.prompt), case.rows, case.width

    def step(tokens: Any, state: Any = None) -> tuple:
        hidden, state = lstm(table(tokens), state)
        return out(hidden[:, -1]), state

    def greedy() -> np.ndarray:
        logits, state = step(prompt)
        written = []
        for _ in range(length):
            written.append(logits.argmax(-1, keepdim=True))
            if len(written) < length:
                logits, state = step(written[-1], state)
        return torch.cat(written, dim=1).numpy()

    def beams() -> np.ndarray:
        logits, state = step(prompt)
        first = torch.log_softmax(logits, -1)
        scores, tokens = first.topk(width, dim=-1)
        alive = tokens.reshape(-1, 1)
        state = tuple(s.repeat_interleave(width, dim=1) for s in state)
        begins = torch.arange(rows)[:, None] * width
        for _ in range(length - 1):
            logits, state = step(alive[:, -1:], state)
            total = scores[..., None] + torch.log_softmax(logits, -1).view(rows, width, -1)
            scores, best = total.flatten(1).topk(width, dim=-1)
            origin = (begins + best // VOCABULARY).flatten()
            alive = torch.cat([alive[origin], (best % VOCABULARY).reshape(-1, 1)], dim=1)
            state = tuple(s.index_select(1, origin) for s in state)
        return scores[:, 0].numpy()

    def write() -> np.ndarray:
        with torch.inference_mode():
            return beams() if width else greedy()

    return write


CONTESTANTS = {"rnnzoo": rnnzoo_loop, "torch": torch_loop, "onnx": onnx_loop}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--length", type=int, default=200)
    args = parser.parse_args()
    case = CASES[args.case]
    if args.contestant == "onnx" and case.width:
        print(json.dumps(None))
        return
    write = CONTESTANTS[args.contestant](case, args.length)
    found, seconds = np.asarray(write()), []  # the first call compiles
    for _ in range(REPEATS):
        begin = now()
        write()
        seconds.append(now() - begin)
    rate = case.rows * args.length / statistics.median(seconds)
    print(json.dumps({"found": found.tolist(), "tokens a second": rate}))


if __name__ == "__main__":
    main()
