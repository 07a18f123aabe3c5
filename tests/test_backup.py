"""Backups: a run that was stopped and resumed is the run that was not, bit for bit."""

import datetime
import importlib.metadata
import pathlib
import resource
import tempfile

import keras
import numpy as np
import pytest
from keras import ops
from reference import on_jax
from stopping import StopAt, Stopped

import rnnzoo
from benchmarks import survival
from rnnzoo.training.backup import folders, snapshot

EPOCHS, VOCABULARY = 3, 11


class Numbers(keras.callbacks.Callback):
    """The epochs and batches that callbacks are told of."""

    kept_in_backup = ()

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(("epoch", epoch))

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)


def build(**more):
    keras.utils.set_random_seed(3)
    options = {"units": 6, "dropout": 0.2, "recurrent_dropout": 0.2, **more}
    model = rnnzoo.one_to_one(vocabulary=VOCABULARY, embedding=4, **options)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    model.compile(
        keras.optimizers.Adam(0.02, global_clipnorm=1.0),
        loss,
        weighted_metrics=[rnnzoo.metrics.Perplexity()],
        jit_compile=True,
    )
    return model


MADE = {}


def untrained(make, **data):
    """What `make` gives, compiled once: that takes most of the time of these tests."""
    if make not in MADE:
        model = make()
        with tempfile.TemporaryDirectory() as folder:  # the callback builds all of the model
            model.fit(epochs=0, callbacks=[rnnzoo.BackupAndResume(folder)], **data)
        MADE[make] = model, state_of(model)
    model, state = MADE[make]
    for name, variable in snapshot.variables_of(model).items():
        variable.assign(state[name])
    keras.utils.set_random_seed(3)
    return model


def documents(seed=0):
    """Shuffled documents, whose ends fall into the middle of windows: 5 batches in an epoch."""
    rng = np.random.default_rng(1)
    texts = [rng.integers(0, VOCABULARY, n) for n in rng.integers(4, 30, 12)]
    return rnnzoo.data.pack(texts, 3, 7, windows_per_batch=2, shuffle=True, seed=seed)


def train(folder, stop=None, epochs=EPOCHS, data=None, every=2, callbacks=(), model=None, **more):
    """The model and history of a training that is broken off after `stop` batches."""
    model = model or untrained(build, x=documents())
    data = documents() if data is None else data
    options = {"validation_data": documents(), **more}
    called = [rnnzoo.TruncatedBPTT(7, 4), rnnzoo.BackupAndResume(folder, every), *callbacks]
    called += [StopAt(stop)] if stop is not None else []
    try:
        history = model.fit(data, epochs=epochs, verbose=0, callbacks=called, **options)
    except Stopped:
        return model, None
    return model, history


def state_of(model):
    return {
        name: np.array(ops.convert_to_numpy(v)) for name, v in snapshot.variables_of(model).items()
    }


def same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert np.array_equal(value, b[name]), name


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that was never stopped: its state and history."""
    model, history = train(tmp_path_factory.mktemp("whole"))
    return state_of(model), history


@pytest.mark.parametrize("stops", [[6], [9, 2], [4, 4, 4]], ids=str)
def test_a_resumed_run_ends_as_one_that_was_not_stopped(whole, tmp_path, stops):
    """In the middle of an epoch, of a document and of a window's dropout; with validation."""
    for stop in stops:
        train(tmp_path, stop)
    model, history = train(tmp_path)
    same(state_of(model), whole[0])
    assert history.history == whole[1].history
    assert history.epoch == whole[1].epoch == [0, 1, 2]


def test_a_run_that_had_ended_returns_its_history_or_trains_on(whole, tmp_path):
    train(tmp_path, epochs=2)
    model, history = train(tmp_path, epochs=2)
    assert history.epoch == [0, 1] and int(model.optimizer.iterations) > 0
    model, history = train(tmp_path)
    same(state_of(model), whole[0])
    assert history.history == whole[1].history


def test_callbacks_are_told_the_right_numbers_once(tmp_path):
    train(tmp_path, 7)
    numbers = Numbers()
    train(tmp_path, callbacks=[numbers])
    n = len(documents())
    rest = range(6 - n, n)  # there is a backup after six batches
    assert numbers.seen == [("epoch", 1), *rest, ("epoch", 2), *range(n)]


class Squares(keras.utils.PyDataset):
    """A data set of a user, which shuffles itself at each epoch's end."""

    def __init__(self):
        super().__init__()
        self.random = np.random.default_rng(5)
        self.order = np.arange(6)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        x = np.full((4, 9, 2), self.order[index], "float32") / 9
        return x, x[..., :1] ** 2

    def on_epoch_end(self):
        self.random.shuffle(self.order)


def generated():
    for index in range(100):
        x = np.random.default_rng(index).normal(size=(4, 9, 2)).astype("float32")
        yield x, x[..., :1]


def arrays():
    x = np.random.default_rng(2).normal(size=(22, 9, 2))
    return {"x": x, "y": x[..., :1] ** 2, "batch_size": 4}


KINDS = {
    "arrays": arrays,
    "dataset": lambda: {"x": Squares()},
    "generator": lambda: {"x": generated(), "steps_per_epoch": 6},
}


def squares(rate=0.01):
    keras.utils.set_random_seed(4)
    model = rnnzoo.one_to_one(features=2, units=5, outputs=1, dropout=0.1, cell="rg_lru")
    optimizer = keras.optimizers.Adam(rate, use_ema=True, ema_momentum=0.9)
    model.compile(optimizer, "mse", metrics=["mae"], jit_compile=on_jax())
    return model


def fit_squares(folder, given, stop=None, callbacks=(), epochs=3, model=None):
    model = model or untrained(squares, **arrays())
    called = [*callbacks, rnnzoo.BackupAndResume(folder, every=1)]
    called += [StopAt(stop)] if stop is not None else []
    try:
        model.fit(epochs=epochs, verbose=0, callbacks=called, **given())
    except Stopped:
        pass
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_data_goes_on(tmp_path, kind):
    """Also with an optimizer that averages the weights at the end of `fit`."""
    never = state_of(fit_squares(tmp_path / "never", KINDS[kind]))
    fit_squares(tmp_path / "stopped", KINDS[kind], stop=9)
    resumed = fit_squares(tmp_path / "stopped", KINDS[kind])
    same(state_of(resumed), never)


def classifier():
    model = rnnzoo.many_to_one(features=2, units=3, outputs=3, recurrent_dropout=0.2)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def translator():
    model = rnnzoo.encoder_decoder(source_features=2, target_vocabulary=3, units=3, dropout=0.2)
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def sequences():
    rng = np.random.default_rng(6)
    return [rng.normal(size=(n, 2)).astype("float32") for n in rng.integers(5, 9, 12)]


def labels(*shape):
    return np.random.default_rng(7).integers(0, 3, shape)


SHUFFLED = {"batch_size": 4, "shuffle": True, "seed": 2, "pad_to_multiple_of": 8}
# By name a model, its data of three batches, and how it is trained.
OTHERS = {
    "many_to_one": (
        classifier,
        lambda: rnnzoo.data.bucket(sequences(), labels(12), **SHUFFLED),
        lambda: rnnzoo.TruncatedBPTT(3),
    ),
    "encoder_decoder": (
        translator,
        lambda: rnnzoo.data.pairs(sequences(), labels(12, 4), **SHUFFLED),
        lambda: rnnzoo.ScheduledSampling(0.4),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_forms_go_on(tmp_path, name):
    make, data, callback = OTHERS[name]

    def run(folder, stop=None):
        model = untrained(make, x=data())
        return fit_squares(folder, lambda: {"x": data()}, stop, [callback()], model=model)

    never = state_of(run(tmp_path / "never"))
    run(tmp_path / "stopped", stop=5)
    same(state_of(run(tmp_path / "stopped")), never)


def test_what_callbacks_of_keras_remember_is_kept(tmp_path):
    def callbacks():
        stop = keras.callbacks.EarlyStopping("loss", 1e9, patience=2, restore_best_weights=True)
        return [stop, keras.callbacks.ReduceLROnPlateau("loss", 0.5, patience=1, min_delta=1e9)]

    model = fit_squares(tmp_path / "never", arrays, callbacks=callbacks(), epochs=9)
    never, epochs = state_of(model), model.history.epoch
    fit_squares(tmp_path / "stopped", arrays, 14, callbacks(), epochs=9)
    resumed = fit_squares(tmp_path / "stopped", arrays, None, callbacks(), epochs=9)
    assert epochs == resumed.history.epoch == [0, 1, 2]
    same(state_of(resumed), never)
    again = fit_squares(tmp_path / "stopped", arrays, None, callbacks(), epochs=9)
    same(state_of(again), never)


class Errors(keras.metrics.Metric):
    """A metric whose result is a vector: mean error and its square."""

    def __init__(self):
        super().__init__(name="errors")
        self.sums = self.add_variable((2,), "zeros")
        self.count = self.add_variable((), "zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        error = ops.mean(ops.abs(ops.cast(y_true, "float32") - ops.cast(y_pred, "float32")))
        self.sums.assign_add(ops.stack([error, error**2]))
        self.count.assign_add(1.0)

    def result(self):
        return self.sums / ops.maximum(self.count, 1)


class Counting(keras.callbacks.Callback):
    """Remembers in every form that a backup can keep."""

    def __init__(self, label="own"):
        super().__init__()
        self.label, self.batches, self.lowest = label, 0, None
        self.losses, self.sums, self.by_epoch = [], np.zeros(2), {}

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.losses.append(logs["loss"])
        self.sums[batch % 2] += logs["loss"]
        self.lowest = min(self.losses)

    def on_epoch_end(self, epoch, logs=None):
        self.by_epoch[epoch] = (self.batches, "ended")


def test_vectors_counters_and_own_callbacks_survive(tmp_path):
    def run(folder, stop=None, label="own"):
        keras.utils.set_random_seed(4)
        model = rnnzoo.one_to_one(features=2, units=2, outputs=1, cell="simple_rnn")
        model.compile("sgd", "mse", metrics=[Errors()], jit_compile=on_jax())
        own = Counting(label)
        files = str(folder) + "-{epoch}-{batch}.weights.h5"
        saving = keras.callbacks.ModelCheckpoint(files, save_freq=4, save_weights_only=True)
        lines = keras.callbacks.CSVLogger(f"{folder}.csv")
        fit_squares(folder, arrays, stop, [own, saving, lines], model=model)
        lines.csv_file.close()  # as the end of a process does
        return model, own

    never, own = run(tmp_path / "never")
    for stop in (9, 2):
        run(tmp_path / "again", stop)
    resumed, same_own = run(tmp_path / "again", label="another")
    assert same_own.label == "another"  # a setting is that of the script
    assert same_own.by_epoch == own.by_epoch and same_own.batches == own.batches
    assert same_own.losses == own.losses and same_own.lowest == own.lowest
    np.testing.assert_array_equal(same_own.sums, own.sums)
    assert len(resumed.history.history["errors"]) == 3
    keras.tree.map_structure(
        np.testing.assert_array_equal, resumed.history.history, never.history.history
    )
    written = [
        sorted(path.name.partition("-")[2] for path in tmp_path.glob(f"{name}-*.h5"))
        for name in ("never", "again")
    ]
    assert written[0] == written[1] and len(written[0]) >= 3
    lines = [(tmp_path / f"{name}.csv").read_bytes() for name in ("never", "again")]
    assert lines[0] == lines[1] and len(lines[0].splitlines()) == 4
    run(tmp_path / "again")  # which had ended
    assert (tmp_path / "again.csv").read_bytes() == lines[0]


def test_a_callback_that_cannot_be_kept_is_refused_before_training(tmp_path):
    class Holding(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.waiting = iter([1])

    model = untrained(squares, **arrays())
    before = state_of(model)
    with pytest.raises(ValueError, match=r"received Holding.waiting=.*kept_in_backup"):
        fit_squares(tmp_path, arrays, callbacks=[Holding()], model=model)
    same(state_of(model), before)
    Holding.kept_in_backup = ()
    fit_squares(tmp_path, arrays, callbacks=[Holding()], model=model, epochs=1)


def test_a_training_that_a_callback_broke_off_goes_on_from_there(tmp_path):
    class Enough(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 3:
                self._model.stop_training = True

    never = state_of(fit_squares(tmp_path / "never", arrays))
    fit_squares(tmp_path / "stopped", arrays, callbacks=[Enough()])
    same(state_of(fit_squares(tmp_path / "stopped", arrays)), never)


def test_a_learning_rate_given_anew_is_taken(tmp_path):
    fit_squares(tmp_path, arrays, stop=3)
    with pytest.warns(UserWarning, match="learning rate of 0.001; the run .* began with 0.01"):
        model = fit_squares(tmp_path, arrays, model=squares(0.001))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("data", "difference"),
    [
        (lambda: documents(seed=9), "x.inputs of batch 0 of epoch 0 has other values now"),
        (lambda: rnnzoo.data.stream(np.arange(200) % VOCABULARY, 3, 7), "there were"),
    ],
)
def test_other_data_are_refused_by_name(tmp_path, data, difference):
    train(tmp_path, 3)
    model = untrained(build, x=documents())
    before = state_of(model)
    with pytest.raises(ValueError, match=f"data than those of .*: {difference}"):
        train(tmp_path, data=data(), model=model)
    for name, value in before.items():
        assert np.array_equal(state_of(model)[name], value), name


def test_another_model_is_refused_by_name(tmp_path):
    train(tmp_path, 3)
    with pytest.raises(ValueError, match=r"is float32\[4, 28\] here and .*4, 24"):
        train(tmp_path, model=build(units=7))
    with pytest.raises(ValueError, match="only the backup has"):
        train(tmp_path, model=build(cell="gru"))


def numbers_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def test_the_last_two_are_kept_and_what_a_killed_writer_left_goes(tmp_path):
    train(tmp_path, 7)
    assert numbers_in(tmp_path) == [4, 6]
    (tmp_path / ".8-abc").mkdir()
    train(tmp_path, 1)
    assert not (tmp_path / ".8-abc").exists()


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def alter(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [(cut, "arrays.npz"), (alter, "backup.json"), (pathlib.Path.unlink, "SHA256SUMS")],
)
def test_of_a_broken_backup_the_older_one_is_taken_and_it_is_said_why(whole, tmp_path, spoil, name):
    train(tmp_path, 7)
    spoil(tmp_path / "6" / name)
    reason = "cannot be read" if spoil is pathlib.Path.unlink else "cut short or altered"
    with pytest.warns(UserWarning, match=rf"6 is broken: .*{reason}.*Going on from the older"):
        model, _ = train(tmp_path)
    same(state_of(model), whole[0])
    assert (tmp_path / "6.broken").is_dir()


def test_nothing_starts_where_all_backups_are_broken(tmp_path):
    train(tmp_path, 7)
    for number in (4, 6):
        alter(tmp_path / str(number) / "arrays.npz")
    with pytest.raises(ValueError, match="at least one that is whole; .*4 is broken"):
        train(tmp_path)
    assert numbers_in(tmp_path) == [4, 6]


def test_a_full_disk_is_a_warning_and_older_backups_stay(whole, tmp_path, monkeypatch):
    train(tmp_path, 5)
    write = folders.write

    def without_room(*given):
        """The system itself refuses to write more than 2,000 bytes."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            write(*given)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with monkeypatch.context() as patched:
        patched.setattr("rnnzoo.training.backup.folders.write", without_room)
        with pytest.warns(UserWarning, match="no backup .*File too large"):
            train(tmp_path, 5)
    assert numbers_in(tmp_path) == [2, 4]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    same(state_of(train(tmp_path)[0]), whole[0])


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    train(tmp_path, 3)
    with pytest.warns(UserWarning, match="no backup .* not finite"):
        train(tmp_path, 4, model=None, callbacks=[Spoil()])
    assert numbers_in(tmp_path) == [2]


class Spoil(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        weights = self.model.get_weights()
        self.model.set_weights([np.full_like(w, np.nan) for w in weights[:1]] + weights[1:])


def test_by_the_clock_backups_take_a_fiftieth_of_the_time(tmp_path):
    train(tmp_path, every=datetime.timedelta(hours=1))
    assert len(numbers_in(tmp_path)) == 1  # that at the end
    with pytest.raises(ValueError, match="every must be a number of batches"):
        rnnzoo.BackupAndResume(tmp_path, every=1.5)
    with pytest.raises(ValueError, match="longer than no time"):
        rnnzoo.BackupAndResume(tmp_path, every=datetime.timedelta(0))


def test_other_versions_are_named(tmp_path, monkeypatch):
    train(tmp_path, 3)
    libraries = rnnzoo.training.backup.record.libraries()
    monkeypatch.setattr(
        "rnnzoo.training.backup.record.libraries", lambda: {**libraries, "keras": "9.9"}
    )
    with pytest.warns(UserWarning, match="made with keras 3.*; here is keras 9.9"):
        train(tmp_path, 1)


def test_versions_are_known_of_packages_under_another_name(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert rnnzoo.training.backup.record.libraries()["keras"] == keras.__version__


@pytest.mark.parametrize(
    "given", [{"initial_epoch": 1}, {"steps_per_epoch": 2}, {"class_weight": {0: 1.0}}], ids=str
)
def test_what_would_move_the_place_in_the_data_is_refused(tmp_path, given):
    with pytest.raises(ValueError, match=f"{next(iter(given))}.* BackupAndResume"):
        fit_squares(tmp_path, lambda: {**arrays(), **given})


def test_a_model_that_is_not_ours_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="BackupAndResume must be used with a model of rnnzoo"):
        model.fit(np.zeros((2, 1)), np.zeros((2, 1)), callbacks=[rnnzoo.BackupAndResume(tmp_path)])


@pytest.mark.skipif(not on_jax(), reason="once is enough, and JAX starts in half the time")
def test_a_process_that_is_killed_while_it_writes_loses_nothing(tmp_path):
    """`python -m benchmarks survival` kills thirty."""
    never = survival.start(tmp_path / "never")
    batches = 60
    met = survival.kill(tmp_path / "killed", batches, 0.0, while_writing=True)
    assert met is not None and met["backups"][-1] >= batches
    resumed = survival.start(tmp_path / "killed")
    assert survival.finish(resumed) == survival.finish(never)
    assert not survival.writing(tmp_path / "killed")
