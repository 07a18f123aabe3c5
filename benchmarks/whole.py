"""Contestants on whole sequences: labels, and an encoder-decoder with attention.

As in `benchmarks.contestant`, a function `(case, batches)` trains on so many batches and returns
the mean loss of the first eight and the seconds of all after the first sixteen, until the loss of
the last is there. Keras is told of a training of twenty such epochs, as few real ones are shorter,
and stopped after the first, whose end it pays once for (0.2 s on JAX) and is not timed.
"""

import os
import sys
from typing import Any

import numpy as np

from benchmarks.cases import BATCH, CLIP, EARLIER, RATE, Whole, whole_data, whole_weights
from benchmarks.clock import CORES, now

WARM, EPOCHS = 2 * BATCH, 20
EPSILON = 1e-12  # Keras and PyTorch add it in two places, where it must not matter


def rnnzoo_model(case: Whole, batches: int) -> tuple[float, float]:
    import rnnzoo

    encoder, decoder = whole_weights(case)
    x, y, lengths = whole_data(case, batches)
    if case.vocabulary:
        sizes = {f"{side}_vocabulary": case.vocabulary for side in ("source", "target")}
        model = rnnzoo.encoder_decoder(units=case.units, attention="dot", **sizes)
        model.encoder.set_weights(encoder)
        model.decoder.set_weights(decoder)
        return _fit(model, case, {"source": x, "target": y})
    model = rnnzoo.many_to_one(features=case.features, units=case.units, outputs=case.outputs)
    model.core.set_weights(decoder)
    return _fit(model, case, {"inputs": x, "lengths": lengths} if case.ragged else x, y)


def earlier_model(case: Whole, batches: int) -> tuple[float, float]:
    """The same by the rnnzoo of another folder."""
    sys.path.insert(0, os.environ[EARLIER])
    return rnnzoo_model(case, batches)


def rnnzoo_by_core(case: Whole, batches: int) -> tuple[float, float]:
    """The same with a JAX device for each core, and a part of the rows on each."""
    import jax
    import keras

    jax.config.update("jax_num_cpu_devices", CORES)
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    return rnnzoo_model(case, batches)


def stock_model(case: Whole, batches: int) -> tuple[float, float]:
    """Functional models of Keras's own layers."""
    import keras
    from keras import layers, ops

    x, y, lengths = whole_data(case, batches)
    made, units = [], case.units

    def kept(layer: Any) -> Any:
        made.append(layer)
        return layer

    if case.vocabulary:
        source, target = (keras.Input((None,), name=n, dtype="int32") for n in ("source", "fed"))
        steps = kept(layers.Embedding(case.vocabulary, units))(source)
        encoder = kept(layers.LSTM(units, return_sequences=True, return_state=True))
        memory, *state = encoder(steps)
        steps = kept(layers.Embedding(case.outputs, units))(target)
        hidden = kept(layers.LSTM(units, return_sequences=True))(steps, initial_state=state)
        joined = layers.Concatenate()([layers.Attention()([hidden, memory]), hidden])
        hidden = kept(layers.Dense(units, activation="tanh", use_bias=False))(joined)
        fed = _fed(case, y)
        inputs, x, y = [source, target], [x, fed[:, :-1]], fed[:, 1:]
    else:
        inputs = given = keras.Input((case.steps, case.features), name="x")
        mask = None
        if case.ragged:
            length = keras.Input((), name="lengths", dtype="int32")
            mask = length[:, None] > ops.arange(case.steps)[None]
            inputs, x = {"x": given, "lengths": length}, {"x": x, "lengths": lengths}
        hidden = kept(layers.LSTM(units))(given, mask=mask)
    model = keras.Model(inputs, kept(layers.Dense(case.outputs))(hidden))
    encoder, decoder = whole_weights(case)
    found = [weight for layer in made for weight in layer.trainable_weights]
    for weight, value in zip(found, encoder + decoder, strict=True):
        weight.assign(value)
    return _fit(model, case, x, y)


def _fed(case: Whole, y: np.ndarray) -> np.ndarray:
    """Targets between their start and their end, the last two of the outputs."""
    ends = case.outputs - 2, case.outputs - 1
    return np.pad(y, ((0, 0), (1, 1)), constant_values=((0, 0), ends))


def _fit(model: Any, case: Whole, x: Any, y: Any = None) -> tuple[float, float]:
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE, epsilon=EPSILON, global_clipnorm=CLIP), loss)

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch + 1 == BATCH:
                self.loss = float(logs["loss"])
            elif batch + 1 == WARM:
                float(logs["loss"])  # once it is there, all before it is done
                self.begin = now()
            elif batch + 1 == self.params["steps"]:
                float(logs["loss"])
                self.seconds = now() - self.begin

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    clock = Clock()
    options = {"batch_size": case.rows, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    model.fit(x, y, callbacks=[clock], **options)
    return clock.loss, clock.seconds


def torch_model(case: Whole, batches: int) -> tuple[float, float]:
    """The usual loop; labels are read from the last real step of each row."""
    import torch

    torch.set_num_threads(CORES)
    model = _translator(case) if case.vocabulary else _labeller(case)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    cost = torch.nn.functional.cross_entropy
    adam = torch.optim.Adam(model.parameters(), RATE, eps=EPSILON)
    x, y, lengths = whole_data(case, batches)
    if case.vocabulary:
        fed = _fed(case, y)
        given, y = (x, fed[:, :-1]), fed[:, 1:]
    else:
        given = (x, lengths - 1)
    *given, y = (torch.tensor(a, device=device).split(case.rows) for a in (*given, y))
    losses = []
    for *inputs, targets in zip(*given, y):
        if len(losses) == WARM:
            begin = now()
        outputs = model(*inputs)
        loss = cost(outputs.flatten(0, -2), targets.flatten().long())
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
        losses.append(float(loss.detach()))
    return sum(losses[:BATCH]) / BATCH, now() - begin


def _labeller(case: Whole) -> Any:
    """All steps are run, and the last real one is looked up: faster than packed sequences."""
    import torch

    class Labeller(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(case.features, case.units, batch_first=True)
            self.out = torch.nn.Linear(case.units, case.outputs)

        def forward(self, x, last):
            hidden, _ = self.lstm(x)
            return self.out(hidden[torch.arange(len(x)), last])

    model, queue = Labeller(), iter(whole_weights(case)[1])
    _fill_lstm(model.lstm, queue)
    _fill_linear(model.out, queue)
    return model


def _translator(case: Whole) -> Any:
    import torch

    class Translator(torch.nn.Module):
        def __init__(self):
            super().__init__()
            units = case.units
            self.source = torch.nn.Embedding(case.vocabulary, units)
            self.encoder = torch.nn.LSTM(units, units, batch_first=True)
            self.target = torch.nn.Embedding(case.outputs, units)
            self.decoder = torch.nn.LSTM(units, units, batch_first=True)
            self.attending = torch.nn.Linear(2 * units, units, bias=False)
            self.out = torch.nn.Linear(units, case.outputs)

        def forward(self, source, fed):
            memory, state = self.encoder(self.source(source))
            hidden, _ = self.decoder(self.target(fed), state)
            alignment = torch.softmax(hidden @ memory.transpose(1, 2), dim=-1)
            joined = torch.cat([alignment @ memory, hidden], dim=-1)
            return self.out(torch.tanh(self.attending(joined)))

    model, queue = Translator(), iter([w for part in whole_weights(case) for w in part])
    for table, lstm in ((model.source, model.encoder), (model.target, model.decoder)):
        with torch.no_grad():
            table.weight.copy_(torch.tensor(next(queue)))
        _fill_lstm(lstm, queue)
    with torch.no_grad():
        model.attending.weight.copy_(torch.tensor(next(queue).T))
    _fill_linear(model.out, queue)
    return model


def _fill_lstm(lstm: Any, queue: Any) -> None:
    """The benchmark's weights; PyTorch has the same gates in the same order, transposed."""
    import torch

    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"):
            getattr(lstm, name).copy_(torch.tensor(next(queue).T))
        lstm.bias_hh_l0.zero_()
        lstm.bias_hh_l0.requires_grad_(False)


def _fill_linear(linear: Any, queue: Any) -> None:
    import torch

    with torch.no_grad():
        linear.weight.copy_(torch.tensor(next(queue).T))
        linear.bias.copy_(torch.tensor(next(queue)))


CONTESTANTS = {
    "rnnzoo": rnnzoo_model,
    "earlier": earlier_model,
    "cores": rnnzoo_by_core,
    "stock": stock_model,
    "torch": torch_model,
}


def counted(case: Whole, batches: int) -> int:
    """Target tokens with their ends, or real steps, of the batches that are timed."""
    if case.vocabulary:
        return batches * case.rows * (case.target + 1)
    return int(whole_data(case, WARM + batches)[2][WARM * case.rows :].sum())
