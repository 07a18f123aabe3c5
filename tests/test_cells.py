"""The laws that every cell obeys, each tested by being in the registry."""

import keras
import numpy as np
import pytest
from keras import ops
from reference import close, on_jax

import rnnzoo
from rnnzoo.cells.cell import blocks
from rnnzoo.cells.keras_cell import initial_states
from rnnzoo.layers.stack import CELLS, check_cell

BATCH, STEPS, FEATURES, UNITS = 2, 7, 3, 4
FLOATS = {"float32": (1e-4, 2e-6), "float64": (1e-9, 1e-12)}


@keras.saving.register_keras_serializable(package="tests")
class Counting(keras.layers.Layer):
    """A user's cell: a matrix, a count of steps, starts that are not zero, a layer inside."""

    state_size = (UNITS, 2 * UNITS, 1)
    output_size = UNITS

    def __init__(self, units=UNITS, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(units)

    def get_initial_state(self, batch_size):
        dtype = self.compute_dtype
        matrix = ops.full((batch_size, UNITS, 2), 0.5, dtype)
        return [ops.ones((batch_size, UNITS), dtype), matrix, ops.zeros((batch_size, 1), "int32")]

    def call(self, inputs, states):
        h, matrix, count = states
        matrix = 0.5 * matrix + ops.stack([h, h * h], axis=-1)
        share = 1.0 / ops.cast(count + 1, h.dtype)
        h = ops.sigmoid(self.dense(ops.concatenate([inputs, h], axis=-1)) + share)
        return h * ops.sum(matrix, axis=-1), [h, matrix, count + 1]


class Plain:
    """A cell that is no layer and has no weights."""

    state_size = FEATURES

    def __call__(self, inputs, states):
        return self.call(inputs, states)

    def call(self, inputs, states):
        h = 0.5 * states[0] + ops.sigmoid(inputs)
        return h, [h]


KINDS = {name: (lambda name=name, **kw: check_cell(name)(UNITS, **kw)) for name in CELLS}
KINDS |= {
    "gru_reset_before": lambda **kw: rnnzoo.layers.GRU(UNITS, reset_after=False, **kw),
    "lstm_softsign": lambda **kw: rnnzoo.layers.LSTM(UNITS, activation="softsign", **kw),
    "keras_lstm": lambda **kw: rnnzoo.layers.RNN(keras.layers.LSTMCell(UNITS), **kw),
    "stacked": lambda **kw: rnnzoo.layers.RNN(
        [keras.layers.GRUCell(3), keras.layers.SimpleRNNCell(UNITS)], **kw
    ),
    "users": lambda **kw: rnnzoo.layers.RNN(Counting(), **kw),
    "no_layer": lambda **kw: rnnzoo.layers.RNN(Plain(), **kw),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


class Case:
    """A layer with its gradient, compiled once for one shape, and data to call it with."""

    def __init__(self, kind, dtype):
        self.dtype, self.rng = dtype, np.random.default_rng(3)
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(dtype)
        self.layer = KINDS[kind](learned_initial_state=True)
        self.layer.build((None, None, FEATURES))
        keras.config.set_dtype_policy(before)
        weights = [self.rng.normal(size=w.shape) * 0.5 for w in self.layer.trainable_weights]
        for weight, value in zip(self.layer.trainable_weights, weights):
            weight.assign(value)
        self.trained = [w.astype(dtype) for w in weights]
        self.x, self.weigh = self.draw(FEATURES), self.draw(self.layer.units)
        self.run = self.compiled(self.at_once)

    def draw(self, size):
        return self.rng.normal(size=(BATCH, STEPS, size)).astype(self.dtype)

    def flags(self):
        """Resets and a mask, the same in every test."""
        reset, mask = np.random.default_rng(1).random((2, BATCH, STEPS)) < [[[0.3]], [[0.8]]]
        reset[0, 3] = mask[0, 3] = True
        return reset, mask

    def state(self, junk=None):
        """The initial state, or one that is junk."""
        state = keras.tree.map_structure(ops.convert_to_numpy, self.layer.initial_state(BATCH))
        if junk is None:
            return state
        return {k: np.full_like(v, junk if v.dtype.kind == "f" else 3) for k, v in state.items()}

    def at_once(self, x, state, reset, mask):
        return self.layer(x, state, reset=reset, mask=mask, training=True)

    def step_by_step(self, x, state, reset, mask):
        """A plain Python loop over the cell."""
        names, cell = self.layer.state_names, self.layer.cell
        nesting, initial = initial_states(cell, 1), self.layer.initial_state(BATCH)
        outputs = []
        for t in range(STEPS):

            def chosen(flag, a, b):
                return ops.where(ops.reshape(flag[:, t], (-1, *[1] * (len(b.shape) - 1))), a, b)

            state = {k: chosen(reset, initial[k], state[k]) for k in names}
            flat = [state[k] for k in names][: len(keras.tree.flatten(nesting))]
            y, new = cell(x[:, t], keras.tree.pack_sequence_as(nesting, flat))
            new = dict(zip(names, [*keras.tree.flatten(new), y]))
            state = {k: chosen(mask, new[k], state[k]) for k in names}
            outputs.append(state[self.layer.output_state])
        return ops.stack(outputs, axis=1), state

    def compiled(self, call):
        """`call` and the gradients of what it gives, of weights, inputs and the first state.

        The loss weighs the outputs of real steps, and the last states of the rows in `ends`.
        """
        layer = self.layer
        floats = [k for k, v in layer.state_spec().items() if "float" in v.dtype]

        def total(weights, x, given, state, reset, mask, weigh, ends):
            with keras.StatelessScope(list(zip(layer.trainable_weights, weights))):
                outputs, last = call(x, {**state, **given}, reset, mask)
            at_end = [ops.sum(ops.sin(ops.reshape(last[k], (BATCH, -1))) * ends) for k in floats]
            return ops.sum(ops.where(mask[..., None], outputs * weigh, 0)) + sum(at_end), (
                outputs,
                last,
            )

        gradient = compiled_gradient(total)

        def run(x, state, reset=None, mask=None, weigh=None, ends=(1, 1)):
            reset = np.zeros((BATCH, STEPS), bool) if reset is None else reset
            mask = np.ones((BATCH, STEPS), bool) if mask is None else mask
            weigh = self.weigh if weigh is None else weigh
            given = {k: state[k] for k in floats}
            ends = np.array(ends, self.dtype)[:, None]
            args = (self.trained, x, given, state, reset, mask, weigh, ends)
            (outputs, last), grads = gradient(
                *keras.tree.map_structure(ops.convert_to_tensor, args)
            )
            return keras.tree.map_structure(ops.convert_to_numpy, (outputs, last, *grads))

        return run

    def same(self, a, b):
        """Asserts that two nests of arrays agree, to the last digits of their dtype."""
        rtol, atol = FLOATS[self.dtype]
        a, b = keras.tree.flatten(a), keras.tree.flatten(b)
        assert len(a) == len(b)
        for one, other in zip(a, b):
            size = max(1.0, np.abs(other).max(initial=0.0))
            np.testing.assert_allclose(one, other, rtol=rtol, atol=atol * size)


def compiled_gradient(total):
    """`total`, `(value, other)`, by XLA: `(other, gradients of the first three arguments)`."""
    if on_jax():
        import jax

        both = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))
        return lambda *args: both(*args)[::-1]
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def gradient(*args):
        with tf.GradientTape() as tape:
            tape.watch(args[:3])
            value, found = total(*args)
        return found, tape.gradient(value, args[:3], unconnected_gradients="zero")

    return gradient


@pytest.fixture(scope="module")
def cases():
    """Makes each case once for all laws."""
    made = {}

    def get(kind, dtype="float32"):
        if (kind, dtype) not in made:
            made[kind, dtype] = Case(kind, dtype)
        return made[kind, dtype]

    return get


def cut(value, row, first, last, fill):
    """Steps `first` to `last` of a row, then `fill` up to the number of steps."""
    found = np.full(value.shape[1:], fill, value.dtype)
    found[: last - first] = value[row, first:last]
    return found


@every_kind
def test_packed_equals_separate(kind, cases):
    """Outputs and gradients; the separate ones are padded, with NaN in the padding."""
    case, places = cases(kind), [(0, 3), (3, STEPS)]
    reset = np.zeros((BATCH, STEPS), bool)
    reset[:, [0, 3]] = True
    outputs, last, d_weights, d_x, d_state = case.run(case.x, case.state(junk=9.0), reset)
    case.same(d_state, {k: v * 0 for k, v in d_state.items()})
    mask = np.arange(STEPS) < np.array([[b - a] for a, b in places])
    sums = []
    for row in range(BATCH):
        x, weigh = (
            np.stack([cut(v, row, *place, fill=np.nan) for place in places])
            for v in (case.x, case.weigh)
        )
        weigh = np.nan_to_num(weigh)
        fresh = np.arange(STEPS) == np.zeros((BATCH, 1))
        found = case.run(x, case.state(junk=9.0), fresh, mask, weigh, ends=(0, 1))
        for i, (a, b) in enumerate(places):
            case.same(found[0][i, : b - a], outputs[row, a:b])
            case.same(found[3][i, : b - a], d_x[row, a:b])
            assert np.all(found[3][i, b - a :] == 0)
        case.same([v[1] for k, v in found[1].items()], [v[row] for k, v in last.items()])
        sums.append(found[2])
    case.same([sum(parts) for parts in zip(*sums)], d_weights)


@every_kind
def test_chunked_equals_whole(kind, cases):
    """One step at a time, from the state that the step before it left."""
    case = cases(kind)
    (reset, mask), state = case.flags(), case.state()
    outputs, last, *_ = case.run(case.x, state, reset, mask)
    for t in range(STEPS):
        now = slice(t, t + 1)
        found, state = case.layer(case.x[:, now], state, reset=reset[:, now], mask=mask[:, now])
        case.same(ops.convert_to_numpy(found), outputs[:, now])
    case.same(keras.tree.map_structure(ops.convert_to_numpy, state), last)


@every_kind
def test_nothing_passes_a_reset_or_a_row(kind, cases):
    """Not even NaN, in the state or in steps, forward or back."""
    case = cases(kind)
    reset = np.zeros((BATCH, STEPS), bool)
    reset[0, 0] = reset[0, 4] = reset[1, 0] = True
    clean = case.run(case.x, case.state(), reset)
    x = case.x.copy()
    x[0, :4] = np.nan
    found = case.run(x, case.state(junk=np.nan), reset)
    assert np.isnan(found[0][0, :4]).all()
    for place in (0, 3):  # outputs, and the gradient of the inputs
        case.same(found[place][0, 4:], clean[place][0, 4:])
        case.same(found[place][1], clean[place][1])
    case.same(found[1], clean[1])
    assert all(np.all(v == 0) for v in found[4].values())


@every_kind
def test_padding_may_hold_anything(kind, cases):
    """NaN or infinity in padding, wherever it is: as zeros there, gradients too."""
    case = cases(kind)
    mask = np.ones((BATCH, STEPS), bool)
    mask[0, :2] = mask[0, 5:] = mask[1, 3] = False
    padded = [np.where(mask[..., None], case.x, np.float32(v)) for v in (0, np.nan, np.inf)]
    found = [case.run(x, case.state(), None, mask) for x in padded]
    case.same(found[1], found[0])
    case.same(found[2], found[0])
    # Moving the first row's two steps of padding to its end changes nothing.
    order = [*range(2, STEPS), 0, 1]
    x, moved, weigh = (np.stack([v[0][order], v[1]]) for v in (padded[0], mask, case.weigh))
    case.same(case.run(x, case.state(), None, moved, weigh)[1:3], found[0][1:3])


@every_kind
@pytest.mark.parametrize("dtype", FLOATS)
def test_equals_a_plain_loop_with_its_gradients(kind, dtype, cases):
    if dtype == "float64" and on_jax():
        pytest.skip("keras.ops.tanh has float32 at most on JAX; see test_layers for ours")
    case = cases(kind, dtype)
    reset, mask = case.flags()
    state = {k: v + case.rng.normal(size=v.shape).astype(v.dtype) for k, v in case.state().items()}
    found = case.run(case.x, state, reset, mask)
    wanted = case.compiled(case.step_by_step)(case.x, state, reset, mask)
    case.same(found, wanted)
    assert all(np.abs(d).max() > 1e-4 for d in wanted[2])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def scanned(a, b):
    """`h' = a * h + b` from 0, over axis 1."""
    h, outputs = np.zeros_like(b[:, 0]), []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        outputs.append(h)
    return np.stack(outputs, axis=1)


def positive(x):
    return np.where(x >= 0, x + 0.5, sigmoid(x))


def min_gru(x, kernel):
    z, k = np.split(x @ kernel, 2, axis=-1)
    return scanned(1 - sigmoid(z), sigmoid(z) * positive(k))


def min_lstm(x, kernel):
    f, i, k = np.split(x @ kernel, 3, axis=-1)
    f, i = sigmoid(f), sigmoid(i)
    return scanned(f / (f + i), i / (f + i) * positive(k))


def lru(x, nu, theta, gamma, kernel, output_kernel, skip):
    eigenvalues = np.exp(-np.exp(nu) + 1j * np.exp(theta))
    b = kernel[:, :UNITS] + 1j * kernel[:, UNITS:]
    c = output_kernel[:UNITS] + 1j * output_kernel[UNITS:]
    driven = np.exp(gamma) * (x @ b)
    return (scanned(np.broadcast_to(eigenvalues, driven.shape), driven) @ c).real + x @ skip


def rg_lru(x, kernel, gates, bias, decay):
    u = x @ kernel
    r = sigmoid(u @ gates[0] + bias[:UNITS])
    i = sigmoid(u @ gates[1] + bias[UNITS:])
    a = np.exp(-8 * r * np.log1p(np.exp(decay)))
    share = np.sqrt(1 - a**2)
    share[:, 0] = 1
    return scanned(a, share * i * u)


def slstm(x, kernel, recurrent, bias):
    """Without a stabiliser, which changes nothing where nothing overflows."""
    h = c = n = np.zeros((len(x), UNITS))
    outputs = []
    for t in range(x.shape[1]):
        i, f, z, o = np.split(x[:, t] @ kernel + h @ recurrent[0] + bias, 4, axis=-1)
        c = sigmoid(f) * c + np.exp(i) * np.tanh(z)
        n = sigmoid(f) * n + np.exp(i)
        h = sigmoid(o) * c / n
        outputs.append(h)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize("formula", [min_gru, min_lstm, lru, rg_lru, slstm])
def test_equals_numpy(formula, cases):
    """The formulas of the papers, in float64, from zeros."""
    case = cases(formula.__name__)
    state = {key: np.zeros_like(value) for key, value in case.state().items()}
    outputs = case.run(case.x, state)[0]
    weights = [ops.convert_to_numpy(w) for w in case.layer.cell.weights]
    case.same(outputs, formula(*(v.astype("float64") for v in (case.x, *weights))))


def test_begins_as_the_papers_say():
    """Long memories, evenly spread; forget gates from 5 to -7."""
    cells = [rnnzoo.cells.CELLS[name](512) for name in ("lru", "rg_lru", "slstm")]
    for cell in cells:
        cell.build((None, 3))
    lru, rg_lru, slstm = cells
    for radius in (
        np.exp(-np.exp(ops.convert_to_numpy(lru.nu_log))),
        1 / (1 + np.exp(ops.convert_to_numpy(rg_lru.decay))),
    ):
        assert 0.9 <= radius.min() < 0.91 and 0.99 < radius.max() <= 0.9991
        assert abs((radius**2).mean() - (0.9**2 + 0.999**2) / 2) < 0.01
    bias = ops.convert_to_numpy(slstm.bias)
    close(bias[[512, 1023]], [5, -7])
    assert np.all(bias[:512] == 0) and np.all(bias[1024:] == 0)


def test_blocks_are_a_block_diagonal_matrix():
    rng = np.random.default_rng(0)
    kernel, x = rng.normal(size=(2, 3, 5)), rng.normal(size=(4, 7, 6))
    cell = rnnzoo.cells.SLSTMCell(6, heads=2)
    found = blocks(cell, ops.convert_to_tensor(x, "float32"), kernel.astype("float32"))
    close(found, np.concatenate([x[..., :3] @ kernel[0], x[..., 3:] @ kernel[1]], axis=-1))


@pytest.mark.parametrize("kind", ["rg_lru", "slstm"])
def test_heads_do_not_see_each_other(kind):
    layer = rnnzoo.layers.RNN(rnnzoo.cells.CELLS[kind](6, heads=3))
    x = np.random.default_rng(0).normal(size=(1, 5, 3)).astype("float32")
    state = layer.initial_state(1)
    layer(x)
    layer.cell.set_weights([w + 0.1 for w in layer.cell.get_weights()])
    state["h"] = state["h"] + np.float32([[0, 0, 1, 1, 0, 0]])
    base, moved = layer(x, layer.initial_state(1))[0], layer(x, state)[0]
    changed = np.abs(ops.convert_to_numpy(moved - base)).max(axis=(0, 1)) > 0
    assert changed.tolist() == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: rnnzoo.cells.MinGRUCell(0), ["units", "at least 1", "units=0"]),
        (lambda: rnnzoo.cells.SLSTMCell(6, heads=4), ["must divide units", "heads=4", "units=6"]),
        (lambda: rnnzoo.cells.RGLRUCell(6, heads=0), ["heads", "at least 1", "heads=0"]),
        (lambda: rnnzoo.cells.LRUCell(4, max_radius=1.0), ["[0, 1)", "max_radius=1.0"]),
        (lambda: rnnzoo.cells.LRUCell(4, max_phase=7.0), ["max_phase", "7.0"]),
    ],
)
def test_what_a_cell_refuses(make, words):
    with pytest.raises(ValueError) as raised:
        make()
    assert all(word in str(raised.value) for word in words)
