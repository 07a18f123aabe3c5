"""One contestant of the training benchmark, in a process of its own: prints one JSON object.

A contestant is a function `(case, windows)` that trains on so many windows in one go. It returns
the mean loss of the first eight, each before its update, and the seconds that all took after the
first sixteen, which warm up.
"""

import argparse
import json
import os
import resource
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np

from benchmarks import whole
from benchmarks.cases import BATCH, CASES, CLIP, EARLIER, RATE, WHOLE, Case, data, weights
from benchmarks.clock import CORES, now

WARM = 2 * BATCH


def rnnzoo_model(case: Case, windows: int) -> tuple[float, float]:
    return rnnzoo_run(case, windows)[1:]


def rnnzoo_run(case: Case, windows: int) -> tuple:
    """The model that was trained, loss and seconds."""
    import rnnzoo

    kind = {"features": case.features}
    if case.vocabulary:
        kind = {"vocabulary": case.vocabulary, "embedding": case.embedding}
    model = rnnzoo.one_to_one(units=case.units, outputs=case.outputs, **kind)
    model.core.set_weights(weights(case))
    _compile(model, case)
    x, y = (a.reshape(-1, *a.shape[2:]) for a in data(case, windows))
    sizes = {"batch_size": case.lanes, "window": case.window, "windows_per_batch": BATCH}
    batches = rnnzoo.data.stream(x, targets=y, **sizes)
    clock = _clock(BATCH)
    model.fit(batches, callbacks=[rnnzoo.TruncatedBPTT(case.window), clock], verbose=0)
    return model, clock.loss, clock.seconds


def earlier_model(case: Case, windows: int) -> tuple[float, float]:
    """The same by the rnnzoo of another folder."""
    sys.path.insert(0, os.environ[EARLIER])
    return rnnzoo_model(case, windows)


def rnnzoo_by_core(case: Case, windows: int) -> tuple[float, float]:
    """The same with a JAX device for each core, and a part of the lanes on each."""
    import jax
    import keras

    jax.config.update("jax_num_cpu_devices", CORES)
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    return rnnzoo_model(case, windows)


def stock_model(case: Case, windows: int) -> tuple[float, float]:
    """Stateful layers, one window after the other through `fit`."""
    import keras
    from keras import layers

    shape = (None,) if case.vocabulary else (None, case.features)
    dtype = "int32" if case.vocabulary else "float32"
    x = inputs = keras.Input(batch_shape=(case.lanes, *shape), dtype=dtype)
    if case.vocabulary:
        x = layers.Embedding(case.vocabulary, case.embedding)(x)
    for units in case.units:
        x = layers.LSTM(units, return_sequences=True, stateful=True)(x)
    model = keras.Model(inputs, layers.Dense(case.outputs)(x))
    for weight, value in zip(model.trainable_weights, weights(case), strict=True):
        weight.assign(value)
    _compile(model, case)

    x, y = (np.concatenate(np.split(a, windows, axis=1)) for a in data(case, windows))
    clock = _clock(1)
    model.fit(x, y, batch_size=case.lanes, shuffle=False, verbose=0, callbacks=[clock])
    return clock.loss, clock.seconds


def _clock(windows: int):
    """A Keras callback that takes loss and seconds; `windows` of them make a batch."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            done = (batch + 1) * windows
            if done == BATCH:
                self.loss = float(logs["loss"])
            elif done == WARM:
                float(logs["loss"])  # once it is there, all before it is done
                self.begin = now()
            elif batch + 1 == self.params["steps"]:
                float(logs["loss"])  # an epoch's end, which JAX compiles once, is not timed
                self.seconds = now() - self.begin

    return Clock()


def _compile(model, case: Case) -> None:
    import keras

    loss = keras.losses.MeanSquaredError()
    if case.vocabulary:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE, global_clipnorm=CLIP), loss)


def torch_model(case: Case, windows: int) -> tuple[float, float]:
    """The usual loop: detach the state, clip, Adam."""
    import torch

    torch.set_num_threads(CORES)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            embedding = torch.nn.Embedding(case.vocabulary or 1, case.embedding or 1)
            self.table = embedding if case.vocabulary else torch.nn.Identity()
            width, units = case.embedding or case.features, case.units[0]
            self.lstm = torch.nn.LSTM(width, units, len(case.units), batch_first=True)
            self.out = torch.nn.Linear(units, case.outputs)

        def forward(self, x, state):
            hidden, state = self.lstm(self.table(x), state)
            return self.out(hidden), state

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Model().to(device)
    _fill(model, case)
    cost = torch.nn.functional.cross_entropy if case.vocabulary else torch.nn.functional.mse_loss
    adam = torch.optim.Adam(model.parameters(), RATE, eps=1e-7)

    sequences = (torch.tensor(a, device=device) for a in data(case, windows))
    x, y = (a.split(case.window, dim=1) for a in sequences)
    state, losses = None, []
    for inputs, targets in zip(x, y):
        if len(losses) == WARM:
            begin = now()
        outputs, state = model(inputs, state)
        state = tuple(s.detach() for s in state)
        if case.vocabulary:
            outputs, targets = outputs.flatten(0, 1), targets.reshape(-1).long()
        loss = cost(outputs, targets)
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        losses.append(float(loss.detach()))
    return sum(losses[:BATCH]) / BATCH, now() - begin


def _fill(model, case: Case) -> None:
    """The benchmark's weights; PyTorch has the same gates in the same order, transposed."""
    import torch

    queue = iter(weights(case))
    with torch.no_grad():
        if case.vocabulary:
            model.table.weight.copy_(torch.tensor(next(queue)))
        for layer in range(len(case.units)):
            for name in ("weight_ih", "weight_hh", "bias_ih"):
                getattr(model.lstm, f"{name}_l{layer}").copy_(torch.tensor(next(queue).T))
            getattr(model.lstm, f"bias_hh_l{layer}").zero_()
            getattr(model.lstm, f"bias_hh_l{layer}").requires_grad_(False)
        model.out.weight.copy_(torch.tensor(next(queue).T))
        model.out.bias.copy_(torch.tensor(next(queue)))


CONTESTANTS = {
    "rnnzoo": rnnzoo_model,
    "earlier": earlier_model,
    "cores": rnnzoo_by_core,
    "stock": stock_model,
    "torch": torch_model,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("contestant", choices=CONTESTANTS)
    parser.add_argument("case", choices=[*CASES, *WHOLE])
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of updates timed")
    args = parser.parse_args()
    streams = args.case in CASES
    case = CASES[args.case] if streams else WHOLE[args.case]
    updates = case.windows if streams else case.batches
    updates = BATCH * max(1, round(updates * args.scale / BATCH))
    run = (CONTESTANTS if streams else whole.CONTESTANTS)[args.contestant]
    loss, seconds = run(case, WARM + updates)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    steps = updates * case.window * case.lanes if streams else whole.counted(case, updates)
    print(json.dumps({"loss": loss, "tokens a second": steps / seconds, "peak MiB": peak}))


if __name__ == "__main__":
    main()
