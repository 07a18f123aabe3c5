"""Bad input: an error that names rule, allowed and received; the model stays usable."""

import types
import zipfile

import keras
import numpy as np
import pytest

import rnnzoo

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
ROWS, STEPS, FEATURES, VOCABULARY = 4, 5, 3, 7

X = np.random.default_rng(0).normal(size=(ROWS, STEPS, FEATURES)).astype("float32")
Y = np.zeros((ROWS, STEPS, 2), "float32")
IDS = np.arange(ROWS * STEPS, dtype="int32").reshape(ROWS, STEPS) % VOCABULARY
RESET = np.zeros((ROWS, STEPS), bool)
LENGTHS = np.array([5, 1, 3, 2])
STREAM = {"inputs": X, "reset": RESET}


def changed(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


class Batches(keras.utils.PyDataset):
    """A user's own data set; each number is the rows of a batch that brings `reset`."""

    def __init__(self, *rows, reset=True):
        super().__init__()
        self.batches = [({"inputs": X[:n], "reset": RESET[:n]}, Y[:n]) for n in rows]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def tensorflow_set(rows, batch_size, **more):
    import tensorflow as tf

    x, y, reset = (np.concatenate([a] * 3)[:rows] for a in (X, Y, RESET))
    parts = ({"inputs": x, "reset": reset, **more}, y)
    return tf.data.Dataset.from_tensor_slices(parts).batch(batch_size)


def fit(model, x, y=None, **options):
    return model.fit(x, y, verbose=0, **options)


def predict(model, x, **options):
    return model.predict(x, verbose=0, **options)


def step(model, x, reset=None, **states):
    state = {key: np.zeros((len(x), 4)) for key in ("h_0", "c_0")} | states
    return model.step(x, {k: v for k, v in state.items() if v is not None}, reset)


def stream(*args, **options):
    return rnnzoo.data.stream(*args, **options)


def layer(name="LSTM", *args, **options):
    return getattr(rnnzoo.layers, name)(*args, **options)


def one(**options):
    return rnnzoo.one_to_one(**{"features": 3, "units": 4, "outputs": 2, **options})


def many(**options):
    return rnnzoo.many_to_one(**{"features": 3, "units": 4, "outputs": 2, **options})


def token(**options):
    return rnnzoo.one_to_one(**{"vocabulary": 7, "units": 4, **options})


def fit_stock_model(callback):
    model = keras.Sequential([keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(X[:, 0], Y[:, 0], verbose=0, callbacks=[callback])


def export(model, path, **options):
    rnnzoo.export(model, path, **options)


def bptt(*args):
    return rnnzoo.TruncatedBPTT(*args)


class Other(keras.callbacks.Callback):
    pass


# Name, model concerned (None: none), call of (model, folder), error, words of its message.
CASES = [
    # Inputs of the training methods.
    ("no data", "real", lambda m, _: fit(m, None, Y), ValueError, ["array", "received x=None"]),
    ("rank 2", "real", lambda m, _: fit(m, X[0], Y), ValueError, ["(batch, time, 3)", "(5, 3)"]),
    ("rank 4", "real", lambda m, _: predict(m, X[None]), ValueError, ["(1, 4, 5, 3)"]),
    (
        "features",
        "real",
        lambda m, _: fit(m, X[..., :2], Y),
        ValueError,
        ["must have 3 features", "(4, 5, 2)"],
    ),
    (
        "a list of sequences",
        "real",
        lambda m, _: fit(m, [X[0], X[1, :2]], Y),
        ValueError,
        ["(batch, time, 3)", "received list", "rnnzoo.data.pack"],
    ),
    ("text", "real", lambda m, _: fit(m, np.full(X.shape, "a"), Y), ValueError, ["real", "str"]),
    (
        "masked inputs",
        "real",
        lambda m, _: step(m, np.ma.masked_greater(X, 0)),
        ValueError,
        ["inputs must have no masked entries"],
    ),
    (
        "a list of masked targets",
        "real",
        lambda m, _: fit(m, X, list(np.ma.masked_greater(Y + X[..., :2], 0))),
        ValueError,
        ["y must have no masked entries"],
    ),
    (
        "a mask with a gap",
        "real",
        lambda m, _: predict(m, {"inputs": X, "mask": changed(~RESET, (2, slice(1, 3)), False)}),
        ValueError,
        ["mask must be True up to", "at row 2, step 3", "sample_weight of 0"],
    ),
    (
        "a reset in padding",
        "many",
        lambda m, _: predict(
            m, {"inputs": X, "lengths": LENGTHS, "reset": changed(RESET, (1, 2), True)}
        ),
        ValueError,
        ["reset must not be True in the padding", "at row 1, step 2"],
    ),
    (
        "targets beyond int32",
        "real",
        lambda m, _: fit(m, X, np.full(Y.shape, 2**31)),
        ValueError,
        ["y must lie in [-2147483648", "received 2147483648 at row 0"],
    ),
    (
        "real targets after integers",
        "real",
        lambda m, _: m.evaluate([(X, Y.astype(int)), (X, Y + 0.5)], verbose=0),
        ValueError,
        ["y must be of the kind of the first", "received real numbers after integers"],
    ),
    (
        "a mask in some batches only",
        "real",
        lambda m, _: m.evaluate([(X, Y), ({"inputs": X, "mask": ~RESET}, Y)], verbose=0),
        ValueError,
        ["what the first has, x.inputs, y; received a batch with x.inputs, x.mask, y"],
    ),
    (
        "targets of another size in a later batch",
        "real",
        lambda m, _: m.evaluate([(X, Y), (X, Y[..., :1])], verbose=0),
        ValueError,
        ["y must have the axes ('any', 'any', 2) in every batch", "('any', 'any', 1)"],
    ),
    (
        "targets that would be laid along the outputs",
        "real",
        lambda m, _: fit(m, X, Y[..., :1]),
        ValueError,
        ["y must have the shape (4, 5, 2)", "of shape (4, 5, 1)"],
    ),
    (
        "targets of no class",
        "tokens",
        lambda m, _: fit(m, IDS, changed(IDS, (1, 2), 7), shuffle=False),
        ValueError,
        ["targets of 'outputs' must be classes, 0 to 6", "received 7 at row 1, step 2"],
    ),
    (
        "weights of no targets",
        "real",
        lambda m, _: m.evaluate(X, sample_weight=np.ones(ROWS), verbose=0),
        ValueError,
        ["sample_weight must come with the targets y"],
    ),
    (
        "class weights of real targets",
        "real",
        lambda m, _: fit(m, X, Y + 0.7, class_weight={0: 2.0}),
        ValueError,
        ["class_weight must come with targets that are classes"],
    ),
    (
        "class weights that are no numbers",
        "tokens",
        lambda m, _: fit(m, IDS, IDS, class_weight={0: np.nan}),
        ValueError,
        ["class_weight[0] must be a number of at least 0", "nan"],
    ),
    ("complex", "real", lambda m, _: fit(m, X * 1j, Y), ValueError, ["real numbers", "complex"]),
    ("objects", "real", lambda m, _: fit(m, X.astype(object), Y), ValueError, ["object"]),
    ("zero rows", "real", lambda m, _: fit(m, X[:0], Y[:0]), ValueError, ["at least one row", "0"]),
    (
        "zero steps",
        "real",
        lambda m, _: fit(m, X[:, :0], Y[:, :0]),
        ValueError,
        ["at least one step", "(4, 0, 3)"],
    ),
    (
        "fewer targets than rows",
        "real",
        lambda m, _: fit(m, X, Y[:3]),
        ValueError,
        ["y must have one row", "4 rows", "received 3"],
    ),
    (
        "fewer weights than rows",
        "real",
        lambda m, _: fit(m, X, Y, sample_weight=np.ones(2)),
        ValueError,
        ["sample_weight must have one row", "received 2"],
    ),
    ("batch_size 0", "real", lambda m, _: fit(m, X, Y, batch_size=0), ValueError, ["batch_size=0"]),
    (
        "batch_size 1.5",
        "real",
        lambda m, _: predict(m, X, batch_size=1.5),
        ValueError,
        ["integer of at least 1", "batch_size=1.5"],
    ),
    (
        "unknown key",
        "real",
        lambda m, _: fit(m, {"inputs": X, "resets": RESET}, Y),
        ValueError,
        ["'inputs' and any of ['reset', 'mask', 'lengths']", "'resets'"],
    ),
    ("no inputs key", "real", lambda m, _: predict(m, {"x": X}), ValueError, ["'inputs'", "['x']"]),
    (
        "validation data of a wrong rank",
        "real",
        lambda m, _: fit(m, STREAM, Y, batch_size=2, validation_data=(X[0], Y)),
        ValueError,
        ["(batch, time, 3)", "(5, 3)"],
    ),
    # Tokens.
    (
        "id too large",
        "tokens",
        lambda m, _: fit(m, changed(IDS, (2, 3), 7), IDS),
        ValueError,
        ["0 to 6", "received 7 at row 2, step 3"],
    ),
    (
        "negative id",
        "tokens",
        lambda m, _: predict(m, changed(IDS, (1, 0), -1)),
        ValueError,
        ["0 to 6", "received -1 at row 1, step 0"],
    ),
    (
        "id too large on the device",
        "tokens",
        lambda m, _: fit(m, keras.ops.convert_to_tensor(IDS + 7), IDS),
        ValueError,
        ["0 to 6", "received 7 at row 0, step 0"],
    ),
    (
        "id too large in a step",
        "tokens",
        lambda m, _: step(m, changed(IDS, (3, 1), 99)),
        ValueError,
        ["0 to 6", "received 99 at row 3, step 1"],
    ),
    (
        "float tokens",
        "tokens",
        lambda m, _: fit(m, IDS.astype("float32"), IDS),
        ValueError,
        ["integers", "float32"],
    ),
    (
        "float tokens in a step",
        "tokens",
        lambda m, _: step(m, IDS.astype("float64")),
        ValueError,
        ["integers", "float64"],
    ),
    ("token rank", "tokens", lambda m, _: fit(m, X, IDS), ValueError, ["token ids", "(4, 5, 3)"]),
    # Reset, mask, lengths.
    (
        "reset shape",
        "real",
        lambda m, _: fit(m, {"inputs": X, "reset": RESET[:, :2]}, Y),
        ValueError,
        ["reset must have shape (batch, time) = (4, 5)", "(4, 2)"],
    ),
    (
        "reset type",
        "real",
        lambda m, _: fit(m, {"inputs": X, "reset": RESET.astype("int32")}, Y),
        ValueError,
        ["reset must be boolean", "int32"],
    ),
    (
        "reset shape in predict",
        "real",
        lambda m, _: predict(m, {"inputs": X, "reset": RESET[:2]}),
        ValueError,
        ["(4, 5)", "(2, 5)"],
    ),
    (
        "reset shape in a step",
        "real",
        lambda m, _: step(m, X, reset=[True] * ROWS),
        ValueError,
        ["(batch, time) = (4, 5)", "(4,)"],
    ),
    (
        "reset type in a step",
        "real",
        lambda m, _: step(m, X, reset=RESET.astype(float)),
        ValueError,
        ["boolean", "float64"],
    ),
    (
        "mask and lengths",
        "many",
        lambda m, _: fit(m, {"inputs": X, "mask": ~RESET, "lengths": LENGTHS}, Y[:, 0]),
        ValueError,
        ["mask and lengths", "give one", "received both"],
    ),
    (
        "mask shape",
        "many",
        lambda m, _: predict(m, {"inputs": X, "mask": RESET[:, :3]}),
        ValueError,
        ["mask must have shape", "(4, 5)", "(4, 3)"],
    ),
    (
        "length too large",
        "many",
        lambda m, _: predict(m, {"inputs": X, "lengths": LENGTHS + 1}),
        ValueError,
        ["0 to 5", "received 6 in row 0"],
    ),
    (
        "negative length",
        "many",
        lambda m, _: predict(m, {"inputs": X, "lengths": [5, -2, 1, 1]}),
        ValueError,
        ["0 to 5", "received -2 in row 1"],
    ),
    (
        "lengths shape",
        "many",
        lambda m, _: fit(m, {"inputs": X, "lengths": LENGTHS[:, None]}, Y[:, 0]),
        ValueError,
        ["(batch,) = (4,)", "(4, 1)"],
    ),
    (
        "lengths type",
        "many",
        lambda m, _: predict(m, {"inputs": X, "lengths": LENGTHS / 2}),
        ValueError,
        ["integers", "float64"],
    ),
    # Batches that carry state.
    (
        "rows not a multiple of batch_size",
        "real",
        lambda m, _: fit(m, STREAM, Y, batch_size=3),
        ValueError,
        ["multiple of batch_size", "received 4 rows, batch_size=3"],
    ),
    (
        "short last batch",
        "real",
        lambda m, _: fit(m, Batches(4, 4, 3)),
        Exception,
        ["one row for each lane", "received a batch of 3 rows for 4 lanes"],
    ),
    (
        "short last batch in evaluate",
        "real",
        lambda m, _: m.evaluate(Batches(4, 1), verbose=0),
        Exception,
        ["one row for each lane", "received a batch of 1 rows for 4 lanes"],
    ),
    (
        "short last batch in predict",
        "real",
        lambda m, _: predict(m, Batches(4, 4, 1)),
        Exception,
        ["one row for each lane", "received a batch of 1 rows for 4 lanes"],
    ),
    (
        "short last batch of a generator",
        "real",
        lambda m, _: fit(m, (Batches(n)[0] for n in (4, 2)), steps_per_epoch=2),
        Exception,
        ["one row for each lane", "received a batch of 2 rows for 4 lanes"],
    ),
    (
        "train_on_batch against the carry",
        "real",
        lambda m, _: m.train_on_batch({"inputs": X[:1], "reset": RESET[:1]}, Y[:1]),
        ValueError,
        ["one row for each lane", "received a batch of 1 rows for 4 lanes"],
    ),
    (
        "empty dataset",
        "real",
        lambda m, _: fit(m, Batches()),
        ValueError,
        ["one batch", "length 0"],
    ),
    ("empty iterator", "real", lambda m, _: fit(m, iter(())), ValueError, ["one batch", "empty"]),
    (
        "shuffled stream",
        "real",
        lambda m, _: fit(m, STREAM, Y, shuffle=True),
        ValueError,
        ["must not be shuffled", "shuffle=True"],
    ),
    (
        "shuffled data set of lanes",
        "tokens",
        lambda m, _: fit(m, stream(IDS.ravel(), 2, 3), shuffle=True),
        ValueError,
        ["must not be shuffled", "shuffle=True"],
    ),
    (
        "split stream",
        "real",
        lambda m, _: fit(m, STREAM, Y, validation_split=0.5),
        ValueError,
        ["split", "validation_split=0.5", "validation_data"],
    ),
    (
        "ResetStates and a reset",
        "real",
        lambda m, _: fit(m, STREAM, Y, callbacks=[rnnzoo.ResetStates(1)]),
        ValueError,
        ["without a 'reset' mask", "['inputs', 'reset']"],
    ),
    (
        "ResetStates and a data set with reset",
        "real",
        lambda m, _: fit(m, Batches(4, 4), callbacks=[rnnzoo.ResetStates("epoch")]),
        ValueError,
        ["without a 'reset' mask", "['inputs', 'reset']"],
    ),
    (
        "ResetStates and a short last batch",
        "real",
        lambda m, _: fit(m, X, Y, batch_size=3, callbacks=[rnnzoo.ResetStates(1)]),
        ValueError,
        ["multiple of batch_size", "received 4 rows, batch_size=3"],
    ),
    # state, step, reset_states, initial_state.
    (
        "state without a name",
        "real",
        lambda m, _: step(m, X, c_0=None),
        ValueError,
        ["['h_0', 'c_0']", "received ['h_0']"],
    ),
    (
        "state with a name too many",
        "real",
        lambda m, _: step(m, X, h_1=np.zeros((ROWS, 4))),
        ValueError,
        ["['h_0', 'c_0']", "'h_1'"],
    ),
    ("state as a list", "real", lambda m, _: m.step(X, [X, X]), ValueError, ["dict", "list"]),
    (
        "width of a state",
        "real",
        lambda m, _: step(m, X, c_0=np.zeros((ROWS, 5))),
        ValueError,
        ["state 'c_0'", "(batch, units) = (4, 4)", "(4, 5)"],
    ),
    (
        "batch of a state",
        "real",
        lambda m, _: m.step(X, m.initial_state(3)),
        ValueError,
        ["(batch, units) = (4, 4)", "(3, 4)"],
    ),
    (
        "state as lists",
        "real",
        lambda m, _: step(m, X, h_0=[[0.0] * 4] * ROWS),
        ValueError,
        ["state 'h_0'", "(4, 4)", "received list"],
    ),
    (
        "features in a step",
        "real",
        lambda m, _: step(m, X[..., :1]),
        ValueError,
        ["3 f", "(4, 5, 1)"],
    ),
    (
        "no steps in a step",
        "real",
        lambda m, _: step(m, X[:, :0]),
        ValueError,
        ["one step", "(4, 0, 3)"],
    ),
    (
        "lane 4 of 4",
        "real",
        lambda m, _: m.reset_states([0, 4]),
        ValueError,
        ["0 to 3", "rows=[0, 4]"],
    ),
    ("lane -1", "real", lambda m, _: m.reset_states(-1), ValueError, ["0 to 3", "rows=[-1]"]),
    (
        "lane 0.5",
        "real",
        lambda m, _: m.reset_states([0.5]),
        ValueError,
        ["integers", "rows=[0.5]"],
    ),
    (
        "a lane before fit",
        None,
        lambda *_: one().reset_states([0]),
        ValueError,
        ["no lane", "rows=[0]"],
    ),
    (
        "batch -1",
        "real",
        lambda m, _: m.initial_state(-1),
        ValueError,
        ["least 0", "batch_size=-1"],
    ),
    ("batch 1.5", "real", lambda m, _: m.initial_state(1.5), ValueError, ["integer", "=1.5"]),
    # Factories.
    (
        "unknown cell",
        None,
        lambda *_: one(cell="lstn"),
        ValueError,
        ["'gru', 'lstm', 'simple_rnn'", "cell='lstn'"],
    ),
    (
        "stock cell",
        None,
        lambda *_: one(cell=keras.layers.LSTM),
        ValueError,
        ["rnnzoo.layers", "LSTM"],
    ),
    (
        "cell 3",
        None,
        lambda *_: many(cell=3),
        ValueError,
        ["'gru', 'lstm', 'simple_rnn'", "cell=3"],
    ),
    ("no units", None, lambda *_: one(units=[]), ValueError, ["at least one layer", "units=[]"]),
    ("units 0", None, lambda *_: one(units=0), ValueError, ["at least 1", "units=0"]),
    ("units -2", None, lambda *_: one(units=[4, -2]), ValueError, ["at least 1", "units[1]=-2"]),
    (
        "units 2.0",
        None,
        lambda *_: one(units=2.0),
        ValueError,
        ["integer of at least 1", "units=2.0"],
    ),
    ("units True", None, lambda *_: many(units=True), ValueError, ["at least 1", "units=True"]),
    ("features 0", None, lambda *_: one(features=0), ValueError, ["at least 1", "features=0"]),
    (
        "vocabulary -1",
        None,
        lambda *_: token(vocabulary=-1),
        ValueError,
        ["least 1", "vocabulary=-1"],
    ),
    (
        "no outputs",
        None,
        lambda *_: one(outputs=None),
        ValueError,
        ["outputs must", "outputs=None"],
    ),
    ("outputs 0", None, lambda *_: many(outputs=0), ValueError, ["at least 1", "outputs=0"]),
    (
        "features and vocabulary",
        None,
        lambda *_: one(vocabulary=7),
        ValueError,
        ["exactly one of features", "features=3, vocabulary=7"],
    ),
    (
        "neither features nor vocabulary",
        None,
        lambda *_: one(features=None),
        ValueError,
        ["exactly one of features", "features=None, vocabulary=None"],
    ),
    (
        "tied of other outputs",
        None,
        lambda *_: token(tied=True, outputs=9),
        ValueError,
        ["outputs must equal vocabulary", "outputs=9, vocabulary=7"],
    ),
    (
        "tied of another embedding",
        None,
        lambda *_: token(tied=True, embedding=5),
        ValueError,
        ["embedding must equal the last of units", "embedding=5, units=[4]"],
    ),
    (
        "tied without tokens",
        None,
        lambda *_: one(tied=True),
        ValueError,
        ["vocabulary", "tied=True"],
    ),
    (
        "embedding without tokens",
        None,
        lambda *_: many(embedding=8),
        ValueError,
        ["need vocabulary", "features=3, embedding=8"],
    ),
    (
        "residual of two sizes",
        None,
        lambda *_: one(units=[4, 5], residual=True),
        ValueError,
        ["layers of one size", "units=[4, 5]"],
    ),
    ("dropout 1.0", None, lambda *_: one(dropout=1.0), ValueError, ["[0, 1)", "dropout=1.0"]),
    ("dropout -0.1", None, lambda *_: one(dropout=-0.1), ValueError, ["[0, 1)", "dropout=-0.1"]),
    (
        "recurrent_dropout nan",
        None,
        lambda *_: many(recurrent_dropout=float("nan")),
        ValueError,
        ["[0, 1)", "recurrent_dropout=nan"],
    ),
    (
        "activation without outputs",
        None,
        lambda *_: many(outputs=None, activation="tanh"),
        ValueError,
        ["outputs=None has none", "activation='tanh'"],
    ),
    (
        "unknown activation",
        None,
        lambda *_: one(activation="tanx"),
        ValueError,
        ["activation", "tanx"],
    ),
    # Layers.
    (
        "stateful",
        None,
        lambda *_: layer("LSTM", 4, stateful=True),
        ValueError,
        ["not allowed", "'stateful'"],
    ),
    (
        "return_state",
        None,
        lambda *_: layer("GRU", 4, return_state=True),
        ValueError,
        ["not allowed: ['return_state']", "keras.layers.GRU"],
    ),
    (
        "unknown activation of a layer",
        None,
        lambda *_: layer("SimpleRNN", 4, activation="relux"),
        ValueError,
        ["activation", "relux"],
    ),
    ("layer of no units", None, lambda *_: layer("GRU", 0), ValueError, ["at least 1", "units=0"]),
    # Callbacks.
    ("window 0", None, lambda *_: bptt(0), ValueError, ["at least 1", "window=0"]),
    ("window -3", None, lambda *_: bptt(-3), ValueError, ["at least 1", "window=-3"]),
    ("window 2.5", None, lambda *_: bptt(2.5), ValueError, ["integer", "window=2.5"]),
    ("stride 0", None, lambda *_: bptt(5, 0), ValueError, ["at least 1", "stride=0"]),
    (
        "stride over window",
        None,
        lambda *_: bptt(5, 6),
        ValueError,
        ["stride (steps between updates) must be at most window", "window=5, stride=6"],
    ),
    ("every 0", None, lambda *_: rnnzoo.ResetStates(0), ValueError, ["at least 1", "every=0"]),
    (
        "every day",
        None,
        lambda *_: rnnzoo.ResetStates("day"),
        ValueError,
        ["at least 1", "'epoch'", "every='day'"],
    ),
    (
        "callback on a stock model",
        None,
        lambda *_: fit_stock_model(bptt(2)),
        ValueError,
        ["TruncatedBPTT must be used with a model of rnnzoo", "received Sequential"],
    ),
    # Data sets.
    (
        "stream window 0",
        None,
        lambda *_: stream(IDS[0], 2, 0),
        ValueError,
        ["at least 1", "window=0"],
    ),
    (
        "stream window 1.0",
        None,
        lambda *_: stream(IDS[0], 2, 1.0),
        ValueError,
        ["integer", "window=1.0"],
    ),
    (
        "window over a lane",
        None,
        lambda *_: stream(np.arange(11), 2, 6),
        ValueError,
        ["at most the steps of the longest lane, 5", "window=6"],
    ),
    (
        "lanes over steps",
        None,
        lambda *_: stream(np.arange(4), 4, 1),
        ValueError,
        ["batch_size must be at most", "3", "batch_size=4"],
    ),
    (
        "lanes over sequences",
        None,
        lambda *_: rnnzoo.data.pack([IDS[0], IDS[1]], 3, 2),
        ValueError,
        ["batch_size must be at most the number of sequences", "2", "batch_size=3"],
    ),
    (
        "empty array",
        None,
        lambda *_: stream(IDS[0, :0], 1, 1),
        ValueError,
        ["one step", "shape (0,)"],
    ),
    (
        "empty sequence",
        None,
        lambda *_: rnnzoo.data.pack([X[0], X[1, :0]], 1, 2, targets=[Y[0], Y[1, :0]]),
        ValueError,
        ["sequences[1]", "at least one step", "(0, 3)"],
    ),
    (
        "no sequence",
        None,
        lambda *_: rnnzoo.data.bucket([], batch_size=2),
        ValueError,
        ["at least one sequence", "received none"],
    ),
    (
        "NaN in a stream",
        None,
        lambda *_: stream(changed(X[0], (3, 1), np.nan), 1, 2, check_finite=True),
        ValueError,
        ["lane 0", "finite", "received nan", "step 3, feature 1"],
    ),
    (
        "infinity in a packed sequence",
        None,
        lambda *_: rnnzoo.data.pack([X[0], changed(X[1], (2, 0), np.inf)], 1, 2, check_finite=True),
        ValueError,
        ["sequences[1]", "finite", "received inf", "step 2, feature 0"],
    ),
    (
        "NaN in a bucket",
        None,
        lambda *_: rnnzoo.data.bucket([X[0], changed(X[1], (4, 2), np.nan)], check_finite=True),
        ValueError,
        ["sequences[1]", "finite", "received nan", "step 4, feature 2"],
    ),
    (
        "token of a stream",
        None,
        lambda *_: stream(changed(IDS[0], 2, 7), 1, 2, vocabulary=7),
        ValueError,
        ["[0, 6]", "received 7", "step 2"],
    ),
    # Export.
    (
        "no version",
        "real",
        lambda m, folder: export(m, folder / "model"),
        ValueError,
        ["must end in a version", "model'"],
    ),
    (
        "existing version",
        "real",
        lambda m, folder: export(m, folder / "old" / "1"),
        FileExistsError,
        ["version 1 exists already", "overwrite=False"],
    ),
    (
        "export under a file",
        "real",
        lambda m, folder: export(m, folder / "file" / "1"),
        OSError,
        ["folder that can be written", "file/1'"],
    ),
    (
        "export deep under a file",
        "real",
        lambda m, folder: export(m, folder / "file" / "model" / "1"),
        OSError,
        ["folder that can be written", "file/model/1'"],
    ),
    (
        "export of a core",
        "real",
        lambda m, folder: export(m.core, folder / "model" / "1"),
        ValueError,
        ["model of rnnzoo", "received Functional"],
    ),
]

TENSORFLOW_CASES = [
    (
        "short last batch of tf.data",
        "real",
        lambda m, _: fit(m, tensorflow_set(10, 4)),
        Exception,
        ["one row for each lane", "received a batch of 2 rows for 4 lanes"],
    ),
    (
        "short last batch of tf.data in predict",
        "real",
        lambda m, _: predict(m, tensorflow_set(10, 4).map(lambda x, y: x)),
        Exception,
        ["one row for each lane", "received a batch of 2 rows for 4 lanes"],
    ),
    (
        "tf.data without end",
        "real",
        lambda m, _: fit(m, tensorflow_set(8, 4).repeat()),
        ValueError,
        ["without end needs steps_per_epoch", "received none"],
    ),
    (
        "empty tf.data",
        "real",
        lambda m, _: fit(m, tensorflow_set(8, 4).take(0)),
        ValueError,
        ["at least one batch", "length 0"],
    ),
    (
        "unknown key in tf.data",
        "real",
        lambda m, _: fit(m, tensorflow_set(8, 4, more=np.zeros((8, 1)))),
        ValueError,
        ["'inputs' and any of ['reset', 'mask', 'lengths']", "'more'"],
    ),
]

# These find the wrong batch when those before it have been trained.
TRAINED_BEFORE = {
    "short last batch",
    "short last batch of tf.data",
    "short last batch of a generator",
}


@pytest.fixture(scope="module")
def models():
    """One model of each kind, with a carry of 4 lanes that is not zero."""
    # Eager where that spares more time than it costs.
    kinds = {"real": one(), "many": many(), "tokens": token()}
    for name, model in kinds.items():
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss if name == "tokens" else "mse", run_eagerly=ON_TENSORFLOW)
        x = {"inputs": IDS if name == "tokens" else X, "reset": RESET}
        model.fit(x, {"real": Y, "many": Y[:, 0], "tokens": IDS}[name], verbose=0)
        assert all(np.any(value) for value in model.states.values())
    return types.SimpleNamespace(**kinds)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "old" / "1").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "kind", "call", "error", "words"),
    CASES + TENSORFLOW_CASES * ON_TENSORFLOW,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input(name, kind, call, error, words, models, folder):
    model = getattr(models, kind) if kind else None
    weights, states = (model.core.get_weights(), model.states) if model else ([], {})
    files = sorted(folder.rglob("*"))

    with pytest.raises(error) as raised:
        call(model, folder)

    for word in words:
        assert word in str(raised.value)
    assert sorted(folder.rglob("*")) == files
    if model is None:
        return
    if name in TRAINED_BEFORE:
        assert model.states["h_0"].shape == (ROWS, 4)
    else:
        for before, after in zip(weights, model.core.get_weights(), strict=True):
            np.testing.assert_array_equal(after, before)
        for key, value in model.states.items():
            np.testing.assert_array_equal(value, states[key])
    assert_usable(model, kind, evaluate=error is Exception)


def assert_usable(model, kind, evaluate=True):
    x, y = {"real": (X, Y), "many": (X, Y[:, 0]), "tokens": (IDS, IDS)}[kind]
    assert model.settings == type(model.settings)()
    outputs = predict(model, x)
    assert outputs.shape[0] == ROWS and np.all(np.isfinite(outputs))
    if evaluate:
        assert np.isfinite(model.evaluate({"inputs": x, "reset": RESET}, y, verbose=0))


def test_there_are_enough_cases():
    assert len(CASES) >= 45
    names = [case[0] for case in CASES + TENSORFLOW_CASES]
    assert len(set(names)) == len(names)


def test_training_goes_on_after_an_error_in_the_first_and_in_a_later_batch(models):
    """JAX trains on copies of the variables, which an error must not lose."""
    for wrong in (Batches(4, 3), Batches(4, 4, 4, 3)):
        with pytest.raises(ValueError, match="for 4 lanes"):
            fit(models.real, wrong)
        history = fit(models.real, Batches(4, 4))
        assert np.isfinite(history.history["loss"][0])
        assert models.real.states["h_0"].shape == (4, 4)


def test_an_error_in_the_loss_leaves_the_variables(models):
    weights = models.real.core.get_weights()
    with pytest.raises(Exception):
        fit(models.real, X, Y[:, :2])
    for before, after in zip(weights, models.real.core.get_weights(), strict=True):
        np.testing.assert_array_equal(after, before)
    assert_usable(models.real, "real")


DAMAGE = {
    "empty": lambda content: b"",
    "random": lambda content: np.random.default_rng(0).bytes(2000),
    "cut at half": lambda content: content[: len(content) // 2],
    "cut near its end": lambda content: content[:-30],
    "overwritten": lambda content: content[:700] + bytes(300) + content[1000:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_corrupt_file_is_an_error(damage, models, tmp_path):
    path = tmp_path / "model.keras"
    models.real.save(path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    with pytest.raises((ValueError, OSError, zipfile.BadZipFile)):
        keras.models.load_model(path)
    assert_usable(models.real, "real")
