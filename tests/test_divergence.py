"""Training that diverges stops at the first bad batch, and leaves the model as it was before."""

import keras
import numpy as np
import pytest
from keras import ops

import rnnzoo
from rnnzoo.training.backup import snapshot

BATCHES, ROWS, STEPS = 8, 2, 6


class Watch(keras.callbacks.Callback):
    """Keeps all variables as they are after each batch; may change the learning rate."""

    def __init__(self, explode_at=None):
        super().__init__()
        self.after, self.explode_at, self.batches = [], explode_at, []

    def on_train_begin(self, logs=None):
        self.note()

    def on_train_batch_begin(self, batch, logs=None):
        if len(self.batches) == self.explode_at:
            self.model.optimizer.learning_rate = 1e3

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(batch)
        self.note()

    def note(self):
        self.after.append(state_of(self.model))


def state_of(model):
    kept = snapshot.variables_of(model).items()
    return {k: np.array(ops.convert_to_numpy(v)) for k, v in kept if "metrics" not in k}


def same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        np.testing.assert_array_equal(value, b[name], name)


def data(bad=None, value=np.nan):
    """A stream of `BATCHES` batches in an epoch; batch `bad` holds a value that is no good."""
    x = np.random.default_rng(0).normal(size=(ROWS * BATCHES * STEPS, 1)).astype("float32")
    steps = rnnzoo.data.stream(x, ROWS, STEPS, targets=0.5 * x)
    assert len(steps) == BATCHES
    if bad is not None:
        x[(bad + 1) * STEPS - 2] = value  # in the first lane
        steps = rnnzoo.data.stream(x, ROWS, STEPS, targets=0.5 * x)
    return steps


MADE = {}


def model(optimizer=keras.optimizers.SGD):
    """A model as new, compiled once: that takes most of the time of these tests."""
    if optimizer not in MADE:
        keras.utils.set_random_seed(3)
        made = rnnzoo.one_to_one(features=1, units=4, outputs=1)
        made.compile(optimizer(0.01), "mse")
        made.fit(data(), epochs=0, callbacks=[rnnzoo.TruncatedBPTT(3)])
        MADE[optimizer] = made, state_of(made)
    made, state = MADE[optimizer]
    for name, variable in snapshot.variables_of(made).items():
        if name in state:
            variable.assign(state[name])
    made.optimizer.learning_rate = 0.01
    return made


def train(steps, callbacks, epochs=3):
    made, called = model(), [*callbacks, rnnzoo.TruncatedBPTT(3)]
    return made, made.fit(steps, epochs=epochs, verbose=0, callbacks=called)


@pytest.mark.parametrize("every", [1, 3])
def test_the_batch_with_nan_is_named_and_the_model_is_as_it_was(every):
    """Every batch: the copy after batch 3 is good, as batch 4 was. Every 3: that after batch 2."""
    watch = Watch()
    good = {1: 4, 3: 3}[every]
    expected = rf"stopped at batch 5 of epoch 0, whose loss is nan\. .* the first {good} batches"
    with pytest.warns(UserWarning, match=expected):
        made, history = train(data(5), [rnnzoo.StopOnDivergence(every=every), watch])
    assert watch.batches == list(range(6))
    same(state_of(made), watch.after[good])
    assert len(history.epoch) == 1 and np.isnan(history.history["loss"][0])


def test_a_loss_that_explodes_is_measured_batch_by_batch():
    """The first of its two windows spoils the weights, the second has the loss."""
    watch = Watch(explode_at=BATCHES + 2)
    stop = rnnzoo.StopOnDivergence(every=1)
    with pytest.warns(UserWarning, match="batch 2 of epoch 1, whose loss .* more than 10 times 0"):
        made, _ = train(data(), [stop, watch])
    same(state_of(made), watch.after[BATCHES + 1])


def test_own_losses_are_those_of_the_batches_alone():
    losses = []

    class Listens(rnnzoo.StopOnDivergence):
        def _loss(self):
            losses.append(super()._loss())
            return losses[-1]

    train(data(), [Listens()], epochs=1)
    alone = []

    class Alone(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            alone.append(logs["loss"])
            self.model.reset_metrics()

    train(data(), [Alone()], epochs=1)
    np.testing.assert_allclose(losses, alone, rtol=1e-4)


def test_infinite_weights_are_seen_where_the_loss_is_finite():
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                variable = self.model.trainable_variables[0]
                variable.assign(np.full(variable.shape, np.inf))

    with pytest.warns(UserWarning, match="batch 2 of epoch 0, after which weights are not finite"):
        made, _ = train(data(), [Spoil(), rnnzoo.StopOnDivergence(every=1)])
    assert all(np.isfinite(w).all() for w in made.get_weights())


def test_the_error_comes_after_the_model_has_gone_back():
    stop = rnnzoo.StopOnDivergence(every=1, raise_error=True)
    assert isinstance(stop, keras.callbacks.TerminateOnNaN)
    with pytest.raises(RuntimeError, match="batch 0 of epoch 0, .* with which training began"):
        train(data(0), [stop])
    same(state_of(MADE[keras.optimizers.SGD][0]), MADE[keras.optimizers.SGD][1])


def test_whole_sequences_and_an_optimizer_that_has_done_nothing_yet():
    made = rnnzoo.many_to_one(features=1, units=2, outputs=1)
    made.compile("adam", "mse")
    x, before = np.full((2, 3, 1), np.nan), made.get_weights()
    with pytest.warns(UserWarning, match="batch 0 of epoch 0, .* with which training began"):
        made.fit(x, np.zeros((2, 1)), verbose=0, callbacks=[rnnzoo.StopOnDivergence()])
    for weight, kept in zip(made.get_weights(), before):
        np.testing.assert_array_equal(weight, kept)
    assert int(made.optimizer.iterations) == 0


def numbers_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("bad", "every", "left", "good"),
    [(5, 2, ["2", "4"], 4), (4, 2, ["2", "4.diverged"], 2), (7, 3, ["3", "6"], 6), (1, 2, [], 0)],
    ids=["middle", "just after a backup", "last of the epoch", "before any backup"],
)
def test_the_model_is_that_of_the_last_good_backup(tmp_path, bad, every, left, good):
    watch = Watch()
    backup = rnnzoo.BackupAndResume(tmp_path / "a", every)
    with pytest.warns(UserWarning, match=f"stopped at batch {bad} of epoch 0, whose loss is nan"):
        made, _ = train(data(bad), [watch, rnnzoo.StopOnDivergence(), backup])
    assert (numbers_in(tmp_path / "a") if left else []) == left
    same(state_of(made), watch.after[good])


def test_the_same_script_goes_on_from_the_good_backup_and_names_the_batch_again(tmp_path):
    """With its number in the epoch; with better data it ends as if nothing had happened."""

    def run(bad, *callbacks):
        return train(data(bad), [*callbacks, rnnzoo.BackupAndResume(tmp_path, 2)], epochs=2)

    expected = "stopped at batch 5 of epoch 0, whose loss is nan.* after 4 batches of epoch 0"
    for callbacks in ([Watch()], []):
        with pytest.warns(UserWarning, match=expected):
            run(5, *callbacks, rnnzoo.StopOnDivergence())
    watch = Watch()
    made, _ = run(None, watch, rnnzoo.StopOnDivergence())
    assert watch.batches[:8] == [*range(8)]  # four of them remembered, from the backup
    resumed = state_of(made)
    never, _ = train(data(), [], epochs=2)
    same(state_of(never), resumed)


def test_a_backup_with_weights_that_explode_in_the_next_batch_is_set_aside(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:  # as an update might do it: the loss was told before
                for variable in self.model.trainable_variables:
                    variable.assign(1e3 * ops.convert_to_tensor(variable))

    watch, backup = Watch(), rnnzoo.BackupAndResume(tmp_path, 1)
    with pytest.warns(UserWarning, match="batch 6 of epoch 0.*after 5 batches of epoch 0"):
        made, _ = train(data(), [Spoil(), watch, rnnzoo.StopOnDivergence(), backup])
    assert numbers_in(tmp_path) == ["5", "6.diverged"]
    same(state_of(made), watch.after[5])


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"factor": 1.0}, "factor must be a number above 1, or None; received factor=1.0"),
        ({"factor": "ten"}, "received factor='ten'"),
        ({"factor": np.inf}, "received factor=inf"),
        ({"every": 0}, "every must be .*received every=0"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_refused(given, match):
    with pytest.raises(ValueError, match=match):
        rnnzoo.StopOnDivergence(**given)
