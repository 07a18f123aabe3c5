"""Encoder-decoder training: truncated BPTT against plain differentiation, scheduled sampling."""

import keras
import numpy as np
import pytest
from keras import ops

import rnnzoo
from tests import pairs
from tests.reference import close, gradients, run

pytestmark = pytest.mark.usefixtures("xla")


class Reference:
    """A one-layer LSTM pair, one row, trained by SGD window by window; in plain loops."""

    def __init__(self, model, x, rate):
        self.weights = [np.array(w) for w in model.encoder.weights + model.decoder.weights]
        self.source = x["source"][0]
        self.inputs = np.concatenate([[model.start], x["target"][0]])
        self.y = np.concatenate([x["target"][0], [model.end]])
        self.units, self.rate = self.weights[2].shape[0], rate

    def read(self, w, part, state):
        return run("LSTM", {}, w[1:4], ops.take(w[0], part, axis=0)[None], state)[1]

    def write(self, w, part, state):
        return run("LSTM", {}, w[5:8], ops.take(w[4], part, axis=0)[None], state)

    def train(self, window, stride):
        count, tail = len(self.inputs), max(0, len(self.source) - window)
        zeros = [np.zeros((1, self.units), "float32")] * 2
        head = [np.array(s) for s in self.read(self.weights, self.source[:tail], zeros)]
        handed_on = None
        for first_new in range(0, count, stride):
            stop = min(first_new + stride, count)
            start = max(0, first_new + stride - window)
            after = max(0, first_new + 2 * stride - window)  # where the next update starts

            def loss(*w, start=start, stop=stop, first_new=first_new, state=handed_on):
                if start == 0:
                    state = self.read(w, self.source[tail:], head)
                hidden, _ = self.write(w, self.inputs[start:stop], state)
                logits = ops.matmul(ops.stack(hidden, axis=1), w[8]) + w[9]
                logits = logits[:, first_new - start :]
                y = self.y[None, first_new:stop]
                return ops.mean(
                    keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
                )

            found = gradients(loss, self.weights)
            w, state = self.weights, handed_on
            if start == 0:
                state = self.read(w, self.source[tail:], head)
            if after > start:
                state = self.write(w, self.inputs[start:after], state)[1]
            if after:
                handed_on = [np.array(s) for s in state]
            self.weights = [a - self.rate * g for a, g in zip(w, found)]


@pytest.mark.parametrize("window, stride", [(3, 3), (4, 2), (50, 50)])
def test_truncation_equals_plain_differentiation(window, stride):
    x = pairs.row_of(pairs.batch(rows=1, steps=(8, 7)), 0)
    model = pairs.model(embedding=3, units=4)
    reference = Reference(model, x, rate=0.5)
    model.compile(keras.optimizers.SGD(0.5), pairs.cross_entropy())
    callback = rnnzoo.TruncatedBPTT(window, stride)
    model.fit(x, batch_size=1, epochs=1, verbose=0, callbacks=[callback])
    reference.train(window, stride)
    for new, expected in zip(model.encoder.weights + model.decoder.weights, reference.weights):
        close(np.array(new), expected, 1e-4)


@pytest.mark.parametrize("options", [{"attention": "dot"}, {"bidirectional": True}])
def test_a_window_of_all_steps_is_full_training(options):
    x, found = pairs.batch(steps=(5, 4)), []
    for callbacks in ([], [rnnzoo.TruncatedBPTT(20)]):
        model = pairs.model(**options)
        model.compile(keras.optimizers.SGD(0.5), pairs.cross_entropy())
        model.fit(x, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
        found.append([np.array(w) for w in model.weights])
    for a, b in zip(*found):
        close(a, b)


def test_one_mask_for_all_steps_however_they_run():
    model = pairs.model(dropout=0.5, recurrent_dropout=0.3, units=[5, 5])
    batch = model.reader.standardize(pairs.batch())
    encoded = model.encode(batch)
    values = {"inputs": batch["inputs"], **{key: encoded[key] for key in model.spec.states}}
    seeds = [np.array(v) for v in model.decoder.non_trainable_variables]
    at_once = model.decode(values, training=True)
    for variable, seed in zip(model.decoder.non_trainable_variables, seeds):
        variable.assign(seed)
    truth = {"truth": np.ones(batch["inputs"].shape, "bool")}
    one_by_one = model.decode({**values, **truth}, training=True)
    again = model.decode({**values, **truth}, training=True)
    for key in at_once:
        close(one_by_one[key], at_once[key])
    assert np.abs(np.array(again["outputs"]) - np.array(one_by_one["outputs"])).max() > 1e-3


def test_sampling_with_probability_0_is_teacher_forcing():
    x, found = pairs.batch(), []
    for callbacks in ([], [rnnzoo.ScheduledSampling(0.0)]):
        model = pairs.model(attention="dot")
        model.compile(keras.optimizers.SGD(0.5), pairs.cross_entropy())
        model.fit(x, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks)
        assert model.settings.sampling is None
        found.append([np.array(w) for w in model.trainable_variables])
    for a, b in zip(*found):
        close(a, b, 1e-4)


def test_sampling_with_probability_1_trains_what_generate_writes():
    rng = np.random.default_rng(0)
    x = {"source": rng.normal(size=(4, 5, 2)), "target": rng.normal(size=(4, 3, 2))}
    model = rnnzoo.encoder_decoder(source_features=2, target_features=2, units=5)
    pairs.randomize(model)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    written = model.generate(x["source"], steps=3)
    expected = np.mean((written - x["target"]) ** 2)
    callback = rnnzoo.ScheduledSampling(1.0, validation=1.0)
    history = model.fit(
        x, batch_size=4, verbose=0, callbacks=[callback], validation_data=(x,)
    ).history
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)
    assert history["val_loss"][0] == pytest.approx(expected, rel=1e-4)
    forced = model.evaluate(x, batch_size=4, verbose=0)
    assert forced != pytest.approx(expected, rel=1e-3)


def test_sampling_follows_its_schedule():
    x, model = pairs.batch(), pairs.model()
    model.compile(keras.optimizers.SGD(0.0), pairs.cross_entropy())
    callback = rnnzoo.ScheduledSampling(lambda epoch: 0.25 * epoch)
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(float(model.sampling_probability))
    )
    losses = model.fit(x, batch_size=4, epochs=5, verbose=0, callbacks=[callback, look])
    losses = losses.history["loss"]
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert losses[0] == pytest.approx(model.evaluate(x, batch_size=4, verbose=0), rel=1e-4)
    assert losses[4] != pytest.approx(losses[0], rel=1e-3)


def test_fed_steps_train_in_windows():
    rng = np.random.default_rng(2)
    source = rng.integers(0, 5, (32, 4))
    x = {"source": source, "target": source}
    model = rnnzoo.encoder_decoder(
        source_vocabulary=5, target_vocabulary=5, units=16, attention="dot", input_feeding=True
    )
    model.compile(keras.optimizers.Adam(0.02), pairs.cross_entropy())
    callbacks = [rnnzoo.TruncatedBPTT(2), rnnzoo.ScheduledSampling(0.2)]
    losses = model.fit(x, batch_size=32, epochs=40, verbose=0, callbacks=callbacks)
    losses = losses.history["loss"]
    assert int(model.optimizer.iterations) == 40 * 3
    assert losses[-1] < 0.7 * losses[0]
