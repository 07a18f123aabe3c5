"""Every form of data x every method x every callback: as with arrays, or refused by name.

One model, ten rows of six tokens in five batches; weights after three epochs of real updates
tell whether every batch came once, in its order, and with the state that it should have.
"""

import itertools
import pickle

import keras
import numpy as np
import pytest

import rnnzoo

pytestmark = pytest.mark.usefixtures("xla")

ROWS, STEPS, BATCH, TOKENS, EPOCHS = 10, 6, 2, 3, 3
COUNT = ROWS // BATCH


class Frame:
    """What pandas and polars have in common."""

    def __init__(self, values):
        self.values, self.columns = values, list("abcdef")[: values.shape[1]]

    def to_numpy(self):
        return self.values

    @property
    def shape(self):
        return self.values.shape

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.columns)


class Own(keras.utils.PyDataset):
    def __init__(self, batches, **options):
        super().__init__(**options)
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class Readable:
    """An iterable that can be read again and again, of a length that nobody knows."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


class Loader(Readable):
    """As PyTorch's `DataLoader`: a length, and batches that are lists."""

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return map(list, self.batches)


def batches_of(x, y):
    cut = [slice(low, low + BATCH) for low in range(0, len(x), BATCH)]
    return [(x[part], y[part]) for part in cut]


def tensorflow_data(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)


# Each gives the arguments that `fit` and `evaluate` take, but for steps.
ARRAYS = {
    "array": lambda x, y: {"x": x, "y": y, "batch_size": BATCH},
    "dict": lambda x, y: {"x": {"inputs": x}, "y": y, "batch_size": BATCH},
    "frame": lambda x, y: {"x": Frame(x), "y": Frame(y), "batch_size": BATCH},
}
SETS = {
    "list": lambda x, y: {"x": batches_of(x, y)},
    "tf.data": lambda x, y: {"x": tensorflow_data(x, y)},
    "PyDataset": lambda x, y: {"x": Own(batches_of(x, y))},
    "workers": lambda x, y: {"x": Own(batches_of(x, y), workers=2)},
    "iterable": lambda x, y: {"x": Readable(batches_of(x, y))},
    "loader": lambda x, y: {"x": Loader(batches_of(x, y))},
    "generator": lambda x, y: {"x": itertools.cycle(batches_of(x, y))},
}
FORMS = ARRAYS | SETS
# As the arrays that they become.
LISTS = {"lists": lambda x, y: {"x": x.tolist(), "y": y.tolist(), "batch_size": BATCH}}
CALLBACKS = {
    "none": lambda folder: [],
    "windows": lambda folder: [rnnzoo.TruncatedBPTT(4)],
    "every 2": lambda folder: [rnnzoo.ResetStates(every=2)],
    "epoch": lambda folder: [rnnzoo.ResetStates("epoch")],
    "windows, every 2": lambda folder: [rnnzoo.TruncatedBPTT(4), rnnzoo.ResetStates(every=2)],
    "backup": lambda folder: [rnnzoo.BackupAndResume(folder, every=2)],
}
PASSES = ("none", "every 2", "epoch")  # of evaluate and predict
# No position to go on from.
UNPLACED = ("tf.data", "iterable", "loader")


class Counting(keras.callbacks.Callback):
    """How many batches every epoch had."""

    def __init__(self):
        super().__init__()
        self.counts = []

    def on_epoch_begin(self, epoch, logs=None):
        self.counts.append(0)

    def on_train_batch_end(self, batch, logs=None):
        self.counts[-1] += 1


@pytest.fixture(scope="module")
def data():
    x = np.random.default_rng(4).integers(0, TOKENS, (ROWS, STEPS)).astype("int32")
    return x, ((x + np.roll(x, 1, axis=1)) % TOKENS).astype("int32")


@pytest.fixture(scope="module")
def begun(data):
    """The model and the weights with which each run of it begins."""
    keras.utils.set_random_seed(6)
    model = rnnzoo.one_to_one(vocabulary=TOKENS, units=2, embedding=2, cell="simple_rnn")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"])
    model.fit(*data, batch_size=BATCH, verbose=0)
    weights = model.get_weights()
    weights[1] = np.random.default_rng(2).normal(size=weights[1].shape).astype("float32")
    return model, weights


def steps_for(form, count=COUNT):
    return {"steps_per_epoch": count} if form == "generator" else {}


def trained(begun, form, data, callbacks, **options):
    """History, weights and counts of a `fit` from the first weights on."""
    model, weights = begun
    model.set_weights(weights)
    model.optimizer.iterations.assign(0)
    counting = Counting()
    options = {"shuffle": False, "verbose": 0, "epochs": EPOCHS, **options}
    if "Reset" in "".join(type(one).__name__ for one in callbacks):
        options.pop("shuffle")
    given = (FORMS | LISTS)[form](*data) | options
    history = model.fit(**given, callbacks=[*callbacks, counting]).history
    return history, model.get_weights(), counting.counts


REFERENCES = {}


def reference(begun, data, name, folder, **options):
    """What arrays give."""
    key = (name, *options)
    if key not in REFERENCES:
        REFERENCES[key] = trained(begun, "array", data, CALLBACKS[name](folder), **options)
    return REFERENCES[key]


def validation(form, data):
    given = FORMS[form](*data)
    return (given["x"], given["y"]) if "y" in given else given["x"]


# Both at once: of each way in which batches are read.
COMBINATIONS = [
    (form, name)
    for form, name in itertools.product(FORMS, CALLBACKS)
    if name != "windows, every 2" or form in ("array", "tf.data", "workers", "generator")
]
COMBINATIONS.append(("lists", "windows"))


@pytest.mark.parametrize(("form", "name"), COMBINATIONS)
def test_fit(begun, data, form, name, tmp_path):
    callbacks = CALLBACKS[name](tmp_path / "own")
    if name == "backup" and form in UNPLACED:
        with pytest.raises(ValueError, match="BackupAndResume needs data whose batches can be"):
            trained(begun, form, data, callbacks)
        return
    validated = name in ("none", "every 2")
    held = {"validation_data": (data[0][:4], data[1][:4]), "validation_batch_size": BATCH}
    held = held if validated else {}
    wanted = reference(begun, data, name, tmp_path / "arrays", **held)
    if validated:
        held["validation_data"] = validation(form, [part[:4] for part in data])
        if form in SETS:  # which have batches of their own
            del held["validation_batch_size"]
        held |= {"validation_steps": 2} if form == "generator" else {}
    history, weights, counts = trained(begun, form, data, callbacks, **steps_for(form), **held)
    assert counts == [COUNT] * EPOCHS
    updates = COUNT * EPOCHS * (2 if "windows" in name else 1)
    assert int(begun[0].optimizer.iterations) == updates
    assert history.keys() == wanted[0].keys()
    for key, values in history.items():
        np.testing.assert_allclose(values, wanted[0][key], rtol=1e-4, err_msg=key)
    for got, other in zip(weights, wanted[1], strict=True):
        np.testing.assert_allclose(got, other, rtol=1e-4, atol=1e-5)


def test_callbacks_make_a_difference(begun, data, tmp_path):
    """Else the grid would compare one thing with itself."""
    found = [
        reference(begun, data, name, tmp_path / name)[1][1]
        for name in ("none", "windows", "every 2", "epoch", "windows, every 2")
    ]
    for one, other in itertools.combinations(found, 2):
        assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("form", ["frame", "lists"])
def test_a_part_is_held_back_of_every_form_of_arrays(begun, data, form):
    held = [part[6:] for part in data]
    wanted = trained(begun, "array", [part[:6] for part in data], [], validation_data=held)
    history, weights, counts = trained(begun, form, data, [], validation_split=0.4)
    assert counts == [3] * EPOCHS
    np.testing.assert_allclose(history["val_loss"], wanted[0]["val_loss"], rtol=1e-4)
    for got, other in zip(weights, wanted[1], strict=True):
        np.testing.assert_allclose(got, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("form", FORMS)
def test_evaluate_and_predict(begun, data, form, name):
    model, weights = begun
    model.set_weights(weights)
    steps = {"steps": COUNT} if form == "generator" else {}
    options = {"verbose": 0, "callbacks": CALLBACKS[name](None)}
    wanted = model.evaluate(*data, batch_size=BATCH, **options)
    found = model.evaluate(**FORMS[form](*data), **steps, **options)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    expected = model.predict(data[0], batch_size=BATCH, **options)
    given = FORMS[form](*data)
    given.pop("y", None)
    outputs = model.predict(**given, **steps, **options)
    assert outputs.shape == ((ROWS, STEPS) if name == "none" else (BATCH, COUNT * STEPS)) + (3,)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
    inputs_alone = {  # without targets beside them
        "list": [(x,) for x, _ in batches_of(*data)],
        "PyDataset": Own([x for x, _ in batches_of(*data)]),
        "iterable": Readable([{"inputs": x} for x, _ in batches_of(*data)]),
        "generator": iter([x for x, _ in batches_of(*data)]),
    }
    if form in inputs_alone:
        outputs = model.predict(inputs_alone[form], **steps, **options)
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", ARRAYS | LISTS)
def test_on_batch(begun, data, form):
    model, weights = begun
    x, y = (part[:BATCH] for part in data)
    given = {name: (ARRAYS | LISTS)[form](x, y)[name] for name in ("x", "y")}
    found = []
    for one in ({"x": x, "y": y}, given):
        model.set_weights(weights)
        told = model.test_on_batch(**one, return_dict=True)
        model.reset_metrics()
        outputs = model.predict_on_batch(one["x"])
        trained = model.train_on_batch(**one, return_dict=True)
        model.reset_metrics()
        found.append((told, outputs, trained, model.get_weights()))
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found
    )


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch", "predict_on_batch"])
@pytest.mark.parametrize("form", SETS)
def test_data_sets_are_no_batch(begun, data, method, form):
    model, weights = begun
    given = FORMS[form](*data)["x"]
    with pytest.raises(ValueError, match="inputs must"):
        getattr(model, method)(given)
    assert model.predict(data[0], verbose=0).shape == (ROWS, STEPS, TOKENS)


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("form", FORMS)
def test_every_batch_is_checked(begun, data, form, method):
    """The last one has a token that the model does not know."""
    model, _ = begun
    x = data[0].copy()
    x[-1, -1] = 99
    given = FORMS[form](x, data[1])
    if form == "generator":
        given["steps_per_epoch" if method == "fit" else "steps"] = COUNT
    if method == "predict":
        given.pop("y", None)
    with pytest.raises(ValueError, match="^token ids must be in 0 to 2; received 99 at row"):
        getattr(model, method)(**given, verbose=0)


def test_a_set_of_a_user_may_be_handed_to_other_processes(begun, data, monkeypatch):
    """As Keras does it with `use_multiprocessing`, which macOS and Windows need pickled."""
    seen, init = [], keras.utils.PyDataset.__init__
    monkeypatch.setattr(
        keras.utils.PyDataset,
        "__init__",
        lambda self, *args, **options: (seen.append(self), init(self, *args, **options))[1],
    )
    begun[0].evaluate(Own(batches_of(*data), workers=2), verbose=0)
    checked = [one for one in seen if not isinstance(one, Own)]
    assert checked
    for one in checked:
        again = pickle.loads(pickle.dumps(one))
        keras.tree.map_structure(np.testing.assert_array_equal, again[1], one[1])


@pytest.mark.parametrize("name", ["every 2", "epoch"])
@pytest.mark.parametrize("form", FORMS)
def test_epochs_of_another_length_than_the_set(begun, data, form, name):
    """Every epoch begins with a reset, wherever in the set it begins."""
    short = 3
    every = 2 if name == "every 2" else short
    ordered = list(itertools.islice(itertools.cycle(batches_of(*data)), short * EPOCHS))
    marked = []
    for index, (x, y) in enumerate(ordered):
        reset = np.zeros(x.shape, bool)
        reset[:, 0] = index % short % every == 0
        marked.append(({"inputs": x, "reset": reset}, y))
    model, weights = begun
    model.set_weights(weights)
    model.fit(iter(marked), epochs=EPOCHS, steps_per_epoch=short, verbose=0)
    wanted = model.get_weights()
    callbacks = CALLBACKS[name](None)
    _, found, counts = trained(begun, form, data, callbacks, steps_per_epoch=short)
    assert counts == [short] * EPOCHS
    for got, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["list", "tf.data", "PyDataset", "iterable"])
def test_every_validation_begins_with_the_first_batch(begun, data, form):
    """As Keras says; what weighs nothing teaches nothing, so all of them find one number."""
    model, weights = begun
    model.set_weights(weights)
    wanted = model.evaluate(*(part[: 2 * BATCH] for part in data), batch_size=BATCH, verbose=0)[0]
    x, y = (part[:BATCH] for part in data)
    options = {"sample_weight": np.zeros(BATCH), "epochs": 2, "verbose": 0}
    held = {"validation_data": SETS[form](*data)["x"], "validation_steps": 2}
    found = model.fit(x, y, **options, **held).history["val_loss"]
    np.testing.assert_allclose(found, [wanted] * 2, rtol=1e-5)


def test_what_can_be_read_once_is_not_read_twice(begun, data):
    model, _ = begun
    batches = batches_of(*data)
    with pytest.raises(ValueError, match="x must be data that can be read again.* steps_per_epoch"):
        model.fit(iter(batches), epochs=2)
    with pytest.raises(ValueError, match="validation_data must be data that can .* of 3 passes"):
        model.fit(batches, epochs=7, validation_data=iter(batches), validation_freq=2)


@pytest.mark.parametrize("form", SETS)
def test_what_has_no_use_beside_a_data_set_is_refused(begun, data, form):
    model, weights = begun
    model.set_weights(weights)
    given, size = SETS[form](*data), {"batch_size": BATCH}
    steps = {"steps": COUNT} if form == "generator" else {}
    held = {"validation_data": SETS[form](*data)["x"], "validation_batch_size": BATCH}
    calls = {
        "fit": lambda: model.fit(**given, **steps_for(form), **size),
        "evaluate": lambda: model.evaluate(**given, **steps, **size),
        "predict": lambda: model.predict(**given, **steps, **size),
    }
    for call in calls.values():
        with pytest.raises(ValueError, match="so batch_size must be None"):
            call()
    with pytest.raises(ValueError, match="validation_batch_size is for arrays"):
        model.fit(*data, **held)
    if not isinstance(given["x"], keras.utils.PyDataset):  # which Keras shuffles
        with pytest.raises(ValueError, match="shuffle=True is for arrays"):
            model.fit(**given, **steps_for(form), shuffle=True)
    for got, was in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(got, was)


def test_an_error_of_the_data_is_raised_as_it_is(begun, data):
    """TensorFlow would raise one of its own, in which it is a text."""
    model, _ = begun
    x, y = data

    class Broken(Own):
        def __getitem__(self, index):
            if index == 2:
                raise LookupError("mine")
            return super().__getitem__(index)

    def broken(batches):
        yield from batches[:2]
        raise LookupError("mine")

    class Short(Readable):
        def __len__(self):
            return COUNT + 1

    batches = batches_of(x, y)
    runs = [
        lambda: model.fit(broken(batches), verbose=0),
        lambda: model.fit(Broken(batches), verbose=0, shuffle=False),
        lambda: model.fit(batches, verbose=0, validation_data=Broken(batches)),
        lambda: model.evaluate(broken(batches), verbose=0),
        lambda: model.predict(broken([(part,) for part, _ in batches]), verbose=0),
    ]
    for run in runs:
        with pytest.raises(LookupError, match="mine"):
            run()
    with pytest.raises(ValueError, match="token ids must be in 0 to 2; received"):
        model.evaluate([*batches, (x[:2] + 9, y[:2])], verbose=0)
    with pytest.raises(ValueError, match=f"as many .*; received {COUNT}, where .* {COUNT + 1}"):
        model.fit(Short(batches), verbose=0)


def test_an_order_of_the_users_own_is_no_order_of_rows(begun, data):
    model, weights = begun
    model.set_weights(weights)
    wanted = model.predict(data[0], batch_size=BATCH, verbose=0)
    for kind in (Own, Readable):
        given = kind([(x,) for x, _ in batches_of(*data)])
        given.order = np.arange(ROWS)[::-1]
        np.testing.assert_allclose(model.predict(given, verbose=0), wanted, rtol=1e-5, atol=1e-6)


def test_targets_of_weight_0_may_be_no_class(begun, data):
    model, weights = begun
    model.set_weights(weights)
    weight = np.ones((ROWS, STEPS))
    weight[1:3, 2:] = 0
    wanted, wrong = [
        model.evaluate(data[0], y, batch_size=BATCH, sample_weight=weight, verbose=0)
        for y in (data[1], np.where(weight == 0, -1, data[1]))
    ]
    np.testing.assert_allclose(wrong[0], wanted[0], rtol=1e-6)


def test_a_generator_that_ends_is_told_of(begun, data):
    """Three epochs of what has one, as training and as validation data."""
    model, _ = begun
    with pytest.warns(UserWarning, match="ran out of data"):
        history = model.fit(iter(batches_of(*data)), epochs=2, verbose=0, steps_per_epoch=COUNT)
    assert len(history.epoch) <= 2
