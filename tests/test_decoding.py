"""Greedy decoding and sampling: against plain Python, alone and in any batch, compiled or not."""

import contextlib
from collections import OrderedDict

import decoding_toys
import keras
import numpy as np
import pytest
from decoding_toys import MEMORY, Toy, arrays, compiled, plain_rows
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from rnnzoo import decoding
from rnnzoo.decoding import Beam, Greedy, Sample, decode
from rnnzoo.decoding import sample as sample_module
from rnnzoo.decoding.random import threefry, uniform

ON_JAX = keras.backend.backend() == "jax"
TOKENS, SEEN = [0, 1, 2, 3, 1, 2], [0, 4, 2, 1, 3, 0]


def run(toy, sampler, tokens=TOKENS, seen=SEEN, max_length=6, **settings):
    return decoding_toys.run(toy, sampler, tokens, seen, max_length=max_length, **settings)


def plain_threefry(key, counter):
    """Threefry-2x32-20 in Python integers, after figure 2 and table 2 of Salmon et al. (2011)."""
    full = 2**32 - 1
    key = [*key, 0x1BD11BDA ^ key[0] ^ key[1]]
    x, y = ((c + k) & full for c, k in zip(counter, key))
    for turn in range(20):
        by = (13, 15, 26, 6, 17, 29, 16, 24)[turn % 8]
        x = (x + y) & full
        y = ((y << by) & full | (y >> (32 - by))) ^ x
        if turn % 4 == 3:
            group = turn // 4 + 1
            x = (x + key[group % 3]) & full
            y = (y + key[(group + 1) % 3] + group) & full
    return [x, y]


def plain_uniform(seed, row, index):
    return (plain_threefry((seed, row), (index, 0))[0] >> 8) / 2**24


def greedy(logits, index):
    return int(np.argmax(logits))


def drawing(seed, row, temperature=1.0, top_k=None, top_p=None):
    """A `choose` for `plain_rows`, from the definition of each filter."""

    def choose(logits, index):
        order = np.argsort(-logits, kind="stable")[:top_k]
        weights = np.exp((logits[order] - logits.max()) / temperature)
        weights /= weights.sum()
        if top_p is not None:
            needed = 1 + int(np.sum(np.cumsum(weights) < top_p))
            order, weights = order[:needed], weights[:needed] / weights[:needed].sum()
        if top_k is None and top_p is None:
            order, weights = np.arange(len(logits)), weights[np.argsort(order)]
        return int(order[np.sum(np.cumsum(weights) <= plain_uniform(seed, row, index))])

    return choose


# Random123's kat_vectors: counter, key, result.
KNOWN = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_threefry_gives_the_published_words(counter, key, result):
    pairs = [tuple(ops.convert_to_tensor(np.uint32([w])) for w in pair) for pair in (key, counter)]
    assert tuple(int(ops.convert_to_numpy(w)[0]) for w in threefry(*pairs)) == result
    assert tuple(plain_threefry(key, counter)) == result


def test_a_uniform_number_depends_on_seed_row_and_step():
    seeds = np.array([[0, 0], [1, 5], [77, 1], [2**31 - 1, 9]], "int32")
    for index in (0, 1, 1000):
        found = ops.convert_to_numpy(uniform(ops.convert_to_tensor(seeds), index))
        assert found.dtype == "float32"
        np.testing.assert_array_equal(found, [plain_uniform(*s.tolist(), index) for s in seeds])


SETTINGS = st.fixed_dictionaries(
    {
        "end": st.sampled_from([None, 0, 2]),
        "min_length": st.integers(0, 3),
        "forbidden": st.sampled_from([(), (1,), (3, 0)]),
    }
)


def check_rows(toy, found, choose, settings, limits=None, tokens=TOKENS, seen=SEEN):
    end = settings["end"]
    for row, (token, number) in enumerate(zip(tokens, seen)):
        length = 6 if limits is None else limits[row]
        expected, score, number, last = plain_rows(
            toy, token, number, choose(row), length, **settings
        )
        padding = [end or 0] * (6 - len(expected))
        assert found.tokens[row].tolist() == expected + padding
        assert found.lengths[row] == len(expected)
        np.testing.assert_allclose(found.scores[row], score, rtol=1e-5, atol=1e-5)
        assert (found.state["seen"][row], found.last[row]) == (number, last)


@given(seed=st.integers(0, 10**6), settings=SETTINGS)
def test_greedy_equals_a_plain_loop(seed, settings):
    toy = Toy(seed)
    check_rows(toy, run(toy, "greedy", **settings), lambda row: greedy, settings)


@given(
    seed=st.integers(0, 10**6),
    settings=SETTINGS,
    temperature=st.sampled_from([0.3, 1.0, 2.5]),
    top_k=st.sampled_from([None, 1, 2, 3, 9]),
    top_p=st.sampled_from([None, 0.2, 0.6, 0.95, 1.0]),
)
def test_sampling_equals_a_plain_loop(seed, settings, temperature, top_k, top_p):
    toy, filters = Toy(seed), (temperature, top_k, top_p)
    found = run(toy, Sample(*filters, seed=seed), **settings)
    check_rows(toy, found, lambda row: drawing(seed, row, *filters), settings)


@given(seed=st.integers(0, 10**6), settings=SETTINGS, limits=st.permutations(range(6)))
def test_each_row_keeps_its_own_limit(seed, settings, limits):
    toy = Toy(seed)
    found = run(toy, Greedy(), limits=limits, **settings)
    check_rows(toy, found, lambda row: greedy, settings, limits)


def test_a_temperature_of_0_is_greedy_in_its_row():
    toy, settings = Toy(3), {"max_length": 12, "end": None}
    greedy = run(toy, "greedy", **settings)
    cold = run(toy, Sample(0.0, top_k=3, seed=1), **settings)
    np.testing.assert_array_equal(greedy.tokens, cold.tokens)
    mixed = run(toy, Sample(np.array([0.0, 1.0] * 3), seed=1), **settings)
    drawn = run(toy, Sample(1.0, seed=1), **settings)
    np.testing.assert_array_equal(mixed.tokens[::2], greedy.tokens[::2])
    np.testing.assert_array_equal(mixed.tokens[1::2], drawn.tokens[1::2])
    assert (drawn.tokens != greedy.tokens).any()


def test_the_rows_have_temperatures_of_their_own():
    temperatures = np.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0])
    toy, settings = Toy(3), {"end": 2, "min_length": 0, "forbidden": ()}
    found = run(toy, Sample(temperatures, seed=8), **settings)
    check_rows(toy, found, lambda row: drawing(8, row, temperatures[row]), settings)


def test_draws_follow_the_distribution():
    probabilities = np.array([0.05, 0.4, 0.0, 0.25, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities).astype("float32")

    def step(tokens, state):
        return ops.broadcast_to(logits, (ops.shape(tokens)[0], 5)), state

    draw = compiled(lambda start: decode(step, (), start, Sample(seed=5), max_length=40).tokens)
    drawn = ops.convert_to_numpy(draw(ops.zeros(100, "int32")))
    for part in (drawn, drawn[:, :10], drawn[:25]):  # by rows and by steps
        counts, expected = np.bincount(part.ravel(), minlength=5), part.size * probabilities
        assert counts[2] == 0
        # The chi-square value of 3 degrees of freedom that one in a thousand exceeds.
        assert np.sum((counts - expected)[expected > 0] ** 2 / expected[expected > 0]) < 16.27
    assert len({tuple(row) for row in drawn}) == 100


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {0, 1, 2, 3}),
        ({"top_k": 2}, {1, 0}),  # of the equals 0 and 3 the lower is kept
        ({"top_k": 3}, {0, 1, 3}),
        ({"top_p": 0.39}, {1}),
        ({"top_p": 1e-38}, {1}),  # 0 to a processor that knows no smaller numbers
        ({"top_p": 0.41}, {0, 1}),
        ({"top_p": 0.85}, {0, 1, 3}),
        ({"top_p": 1.0}, {0, 1, 2, 3}),
        ({"top_k": 2, "top_p": 0.55}, {1}),  # 0.4 of 0.65 is enough after top_k
    ],
)
def test_filters_leave_the_right_tokens(filters, expected):
    logits = np.log([[0.25, 0.4, 0.1, 0.25]]).astype("float32")
    logits = np.repeat(logits, 400, axis=0)
    sampler = Sample(seed=1, **filters)
    sampler = sampler.with_values(sampler.values(400))
    chosen = sampler.choose(ops.convert_to_tensor(logits), ops.convert_to_tensor(0))
    assert set(ops.convert_to_numpy(chosen).tolist()) == expected


@pytest.mark.parametrize("filters", [{}, {"top_k": 4}, {"top_p": 1.0}])
@pytest.mark.parametrize("number", [0.0, 1 - 2**-24, 1.0])
def test_what_is_impossible_is_never_drawn(monkeypatch, filters, number):
    monkeypatch.setattr(sample_module, "uniform", lambda seeds, index: ops.full((2,), number))
    logits = np.array([[-np.inf, 0.1, 0.3, -np.inf], [-np.inf, -200, 3.0, -1000]], "float32")
    sampler = Sample(1e-3, seed=1, **filters)
    sampler = sampler.with_values(sampler.values(2))
    chosen = ops.convert_to_numpy(sampler.choose(ops.convert_to_tensor(logits), 0))
    assert chosen[0] in (1, 2) and chosen[1] == 2


def test_a_forbidden_token_is_not_taken_even_where_the_model_allows_no_other():
    logits = np.array([[0.0, -np.inf, -np.inf]], "float32")
    for sampler in ("greedy", Sample(seed=0)):
        found = decode(lambda t, s: (logits, s), (), [0], sampler, max_length=3, forbidden=[0])
        assert 0 not in ops.convert_to_numpy(found.tokens)


@pytest.mark.parametrize("sampler", [Greedy(), Sample(2.0, seed=np.arange(50, 56)), Beam(3, 0.5)])
def test_a_row_decodes_alike_alone_and_in_any_order(sampler):
    toy, settings = Toy(11, aligned=True), {"end": 2, "limits": np.array([6, 5, 4, 6, 1, 6])}
    together = run(toy, sampler, **settings)

    def part(rows):
        one = sampler
        if isinstance(sampler, Sample):
            one = sampler.with_values({"seed": sampler.seed[rows]})
        return run(
            toy,
            one,
            np.array(TOKENS)[rows],
            np.array(SEEN)[rows],
            end=2,
            limits=settings["limits"][rows],
        )

    for rows in ([0], [4, 3], [5, 4, 3, 2, 1, 0, 5, 0]):
        apart = part(rows)
        for name in ("tokens", "lengths", "alignment"):
            np.testing.assert_array_equal(getattr(apart, name), getattr(together, name)[rows])
        np.testing.assert_allclose(apart.scores, together.scores[rows], rtol=1e-6)


@pytest.mark.parametrize("sampler", ["greedy", Sample(seed=3)])
def test_a_row_that_has_ended_is_frozen(sampler):
    found = run(Toy(5), sampler, end=2, max_length=12)
    ended = found.lengths < 12
    assert ended.any() and len(set(found.lengths)) > 1
    # The end token was chosen in one step more, and never fed.
    np.testing.assert_array_equal(found.state["steps"], found.lengths + ended)
    np.testing.assert_array_equal(found.last == 2, ended)


@pytest.mark.parametrize("sampler", ["greedy", Beam(2)])
def test_the_loop_stops_when_all_rows_have_ended(sampler):
    toy = Toy(0)
    toy.table[:] = np.array([0.0, 0.0, 9.0, 0.0])
    with jit_off():
        found = run(toy, sampler, end=2, max_length=50, min_length=3)
    assert np.all(found.lengths == 3)
    assert toy.calls == 1 + 4  # one for the shapes


def jit_off():
    """JAX then runs each turn of a loop as Python, as TensorFlow does anyway."""
    if not ON_JAX:
        return contextlib.nullcontext()
    import jax

    return jax.disable_jit()


def test_decoding_goes_on_where_it_stopped():
    toy = Toy(6)
    whole = run(toy, "greedy", max_length=9)
    first = run(toy, "greedy", max_length=4)
    then = arrays(decode(toy.step, first.state, first.last, "greedy", max_length=5))
    np.testing.assert_array_equal(np.hstack([first.tokens, then.tokens]), whole.tokens)
    np.testing.assert_allclose(first.scores + then.scores, whole.scores, rtol=1e-5)
    np.testing.assert_array_equal(then.state["seen"], whole.state["seen"])
    assert np.all(then.state["steps"] == 9)


def test_a_row_without_steps_stays_as_it_is():
    found = run(Toy(6), "greedy", limits=[0, 1, 0, 2, 0, 6], end=None)
    assert found.state["steps"].tolist() == [0, 1, 0, 2, 0, 6]
    np.testing.assert_array_equal(found.last[[0, 2, 4]], np.array(TOKENS)[[0, 2, 4]])
    assert np.all(found.scores[[0, 2, 4]] == 0)


def test_the_alignment_has_a_row_for_each_scored_step():
    toy = Toy(5, aligned=True)
    found = run(toy, "greedy", end=2)
    assert found.alignment.shape == (6, 6, MEMORY) and found.alignment.dtype == "float32"
    for row, (token, seen) in enumerate(zip(TOKENS, SEEN)):
        expected = np.zeros((6, MEMORY))
        for index in range(min(found.lengths[row] + 1, 6)):
            _, seen = toy.follow(token, seen)
            expected[index, seen] = 1
            token = found.tokens[row, index]
        np.testing.assert_array_equal(found.alignment[row], expected)


def test_the_state_may_be_any_nest_and_the_logits_any_float():
    toy = Toy(2)

    def step(tokens, state):
        inner, (flags, tensor) = state
        logits, inner = toy.step(tokens, inner)
        inner = OrderedDict(reversed(inner.items()))  # what counts is the name
        return ops.cast(logits, "float16"), (inner, [ops.logical_not(flags), tensor + 1.0])

    start = (OrderedDict(toy.start(SEEN)), [np.zeros(6, "bool"), np.zeros((6, 2, 3), "float32")])
    found = arrays(decode(step, start, TOKENS, "greedy", max_length=3, limits=[1, 2, 3, 0, 1, 2]))
    assert found.scores.dtype == "float32"
    inner, (flags, tensor) = found.state
    assert flags.tolist() == [True, False, True, False, True, False]
    np.testing.assert_array_equal(tensor[:, 1, 2], inner["steps"])
    np.testing.assert_array_equal(inner["steps"], [1, 2, 3, 0, 1, 2])


SAMPLERS = [Greedy(), Sample(0.8, 3, 0.9, seed=4), Beam(3, 0.7, 2)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_compiled_equals_eager(sampler):
    toy = Toy(9, aligned=True)
    settings = {"max_length": 6, "end": 2, "min_length": 1, "forbidden": [3]}
    expected = arrays(decode(toy.step, toy.start(SEEN), TOKENS, sampler, **settings))

    def function(tokens, state, values):
        used = sampler.with_values(values)
        return tuple(decode(toy.step, state, tokens, used, **settings))

    state = keras.tree.map_structure(ops.convert_to_tensor, toy.start(SEEN))
    tokens = ops.convert_to_tensor(np.array(TOKENS, "int32"))
    found = compiled(function)(tokens, state, sampler.values(6))
    same(found, expected)
    if not ON_JAX:
        same(dynamic(function, tokens, state, sampler.values(6)), expected)


def dynamic(function, *args):
    """What a TensorFlow graph of unknown batch gives."""
    import tensorflow as tf

    specs = keras.tree.map_structure(lambda x: tf.TensorSpec((None, *x.shape[1:]), x.dtype), args)
    return tf.function(function, input_signature=specs, autograph=False)(*args)


def same(found, expected):
    for name, one, other in zip(expected._fields, found, expected):
        keras.tree.assert_same_structure(one, other)
        for a, b in zip(keras.tree.flatten(one), keras.tree.flatten(other)):
            if a is not None:
                np.testing.assert_allclose(ops.convert_to_numpy(a), b, rtol=1e-5, err_msg=name)


@pytest.mark.skipif(ON_JAX, reason="a graph of unknown sizes")
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("told", [True, False])
def test_length_and_source_may_be_unknown_in_a_graph(sampler, told):
    import tensorflow as tf

    toy = Toy(9, aligned=True)
    expected = run(toy, sampler, max_length=5, end=2)

    @tf.function(autograph=False)
    def function(tokens, state, source, max_length):
        def step(tokens, state):
            logits, inner, alignment = toy.step(tokens, state[0])
            return logits, (inner, state[1]), alignment + 0.0 * state[1]

        return tuple(
            decode(
                step,
                (state, source),
                tokens,
                sampler,
                max_length=max_length,
                end=2,
                alignment_steps=tf.shape(source)[1] if told else None,
            )
        )

    spec = tf.TensorSpec((None,), "int32")
    function = function.get_concrete_function(
        spec,
        {"seen": spec, "steps": spec},
        tf.TensorSpec((None, None), "float32"),
        tf.TensorSpec((), "int32"),
    )
    found = function(
        tf.constant(TOKENS, "int32"),
        keras.tree.map_structure(tf.constant, toy.start(SEEN)),
        tf.zeros((6, MEMORY)),
        tf.constant(5),
    )
    found = [*found[:4], found[4] and found[4][0], found[5]]
    same(found, expected)


def test_a_compiled_graph_holds_the_step_once():
    toy = Toy(1)
    settings = {"max_length": 7, "end": 2}
    start = toy.start(SEEN)
    function = compiled(lambda tokens: decode(toy.step, start, tokens, "greedy", **settings).tokens)
    function(ops.convert_to_tensor(np.array(TOKENS, "int32")))
    if ON_JAX:  # JAX may trace the body of a loop again to settle its types
        assert toy.calls <= 3
    else:
        assert toy.calls == 2


def test_samplers_tell_their_settings():
    assert [s.copies for s in SAMPLERS] == [1, 1, 3]
    assert len({s.key for s in [*SAMPLERS, Beam(3, 0.7, 1), Sample(0.8, 2, 0.9)]}) == 5
    assert Sample(0.5, 3, seed=1).key == Sample(2.0, 3, seed=np.array([2])).key
    assert Greedy().values(4) == {} == Beam(2).values(4)
    values = Sample(0.5, seed=7).values(3)
    assert ops.convert_to_numpy(values["seed"]).tolist() == [[7, 0], [7, 1], [7, 2]]
    assert ops.convert_to_numpy(values["temperature"]).tolist() == [0.5, 0.5, 0.5]
    assert repr(Beam(3, 0.7, 2)) == "Beam(width=3, length_penalty=0.7, n_best=2)"


def test_seeds_have_no_draws_in_common():
    def drawn(seed):
        logits = ops.zeros((6, 1000))
        sampler = Sample(seed=seed)
        return ops.convert_to_numpy(sampler.with_values(sampler.values(6)).choose(logits, 0))

    draws = np.array([drawn(seed) for seed in range(5)])
    assert len(np.unique(draws)) > 0.9 * draws.size
    # Rows with seeds of their own draw as a first row does, wherever they stand.
    np.testing.assert_array_equal(drawn([3, 0, 4, 1, 2, 3]), draws[[3, 0, 4, 1, 2, 3], 0])


class Mine(decoding.Sampler):
    """A user's sampler, which says nothing of its key."""

    def __init__(self, setting):
        self.setting = setting


class MineToo(Mine):
    pass


class MineOfSample(Sample):
    """One that goes on from a sampler of rnnzoo."""

    def __init__(self, setting):
        super().__init__(seed=1)
        self.setting = setting


ALIKE = [1, 1.0, True, "1", np.float32(1), np.array([1, 2]), np.array([1.0, 2.0]), (1,), [1]]
ALIKE += [{"a": 1}]


def test_a_key_tells_all_settings_apart():
    made = [kind(setting) for kind in (Mine, MineToo, MineOfSample) for setting in ALIKE]
    assert len({sampler.key for sampler in made}) == len(made)
    for sampler in made:
        assert sampler.key == type(sampler)(sampler.setting).key
    changed = Mine(1)
    changed.setting = 2
    assert changed.key == Mine(2).key
    for unknown in (lambda logits: logits, object(), Greedy(), {1, 2}, np.array([None])):
        assert Mine(unknown).key is None


def test_a_seed_is_drawn_from_numpy():
    np.random.seed(4)
    first = Sample().seed
    np.random.seed(4)
    assert Sample().seed == first
    assert Sample().seed != first


def test_a_sampler_is_found_by_name():
    assert type(decoding.get("greedy")) is Greedy
    assert type(decoding.get("sample")) is Sample
    beam = Beam(2)
    assert decoding.get(beam) is beam


BAD_CALLS = [
    ({"max_length": 0}, "max_length must be an integer of at least 1; received max_length=0"),
    ({"max_length": 2.0}, "max_length must be an integer of at least 1; received max_length=2.0"),
    ({"min_length": -1}, "min_length must be an integer of at least 0; received min_length=-1"),
    ({"min_length": 4}, "min_length must be at most max_length=3; received min_length=4"),
    ({"end": 4}, r"end must be integers in \[0, 4\), the vocabulary; received 4"),
    ({"end": True}, "end must be an integer of at least 0; received end=True"),
    ({"end": {}}, "end must be an integer of at least 0; received end={}"),
    ({"forbidden": [1, -1]}, "each token of forbidden must be an integer of at least 0; .*=-1"),
    ({"forbidden": [1, 4]}, r"forbidden must be integers in \[0, 4\), the vocabulary; received 4"),
    ({"forbidden": 0}, "forbidden must be a list .or any iterable. of tokens; .* forbidden=0"),
    ({"alignment_steps": "abc"}, "alignment_steps must be an integer of at least 1; .*='abc'"),
    ({"alignment_steps": 5}, "alignment_steps must be the steps .* alignment_steps=5 and none"),
    ({"state": "abc"}, "state must have the rows of tokens|state must be a nest of tensors"),
    ({"step": np.zeros(3)}, "step must be a function of .tokens, state.; received step=array"),
    ({"tokens": [2**40] * 6}, "tokens must be .* integers of at least 0; received array"),
    ({"forbidden": range(4)}, r"must leave a token .* received forbidden=\[0, 1, 2, 3\]"),
    (
        {"forbidden": [1, 2, 3], "end": 0, "min_length": 1},
        r"must leave a token of the 4 .* forbidden=\[1, 2, 3\], end=0, min_length=1",
    ),
    ({"limits": [1, 2, 4, 1, 1, 1]}, r"limits must be in \[0, max_length=3\]; received limits="),
    ({"limits": [1, 2]}, r"limits must be \(6,\), one per row; received shape \(2,\)"),
    ({"limits": np.ones(6)}, r"limits must be \(batch,\) integers .* received array"),
    ({"tokens": [[1, 2]]}, r"tokens must be \(batch,\) integers; received shape \(1, 2\)"),
    ({"tokens": [0.5]}, r"tokens must be \(batch,\) integers .* received array"),
    ({"tokens": [1, 2]}, r"state must have the rows of tokens, \(2, ...\); .* shape \(6,\)"),
    ({"sampler": "beam"}, "sampler must be one of 'greedy', 'sample'; received sampler='beam'"),
    ({"sampler": 3}, "sampler must be 'greedy', 'sample' or a sampler, .* received sampler=3"),
    ({"sampler": Sample(seed=[1, 2])}, r"seed must be one number or \(6,\).* shape \(2,\)"),
    ({"sampler": Sample([0.5, 1])}, r"temperature must be one number or \(6,\).* shape \(2,\)"),
]


@pytest.mark.parametrize(("given", "message"), BAD_CALLS, ids=lambda v: str(v)[:50])
def test_bad_arguments_are_refused(given, message):
    toy = Toy(0)
    given = {"tokens": TOKENS, "sampler": "greedy", "max_length": 3, **given}
    given = {"step": toy.step, "state": toy.start(SEEN), **given}
    with pytest.raises(ValueError, match=message):
        decode(**given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sample(-0.1), "temperature must be a number of at least 0, .* temperature=-0.1"),
        (lambda: Sample(np.array([1.0, -1.0])), "temperature must be a number of at least 0"),
        (lambda: Sample(float("nan")), "received temperature=nan"),
        (lambda: Sample(1e39), "within float32, .* received temperature=1e.39"),
        (lambda: Sample("hot"), "temperature must hold numbers; received the text 'hot'"),
        (lambda: Sample(top_k=0), "top_k must be an integer of at least 1; received top_k=0"),
        (lambda: Sample(top_p=0.0), r"top_p must be in \(0, 1\] or None; received top_p=0.0"),
        (lambda: Sample(top_p=1.5), r"top_p must be in \(0, 1\] or None; received top_p=1.5"),
        (lambda: Sample(seed=-1), r"seed must be an integer in \[0, 2\*\*31\), .* seed=-1"),
        (lambda: Sample(seed=2**31), "received seed=2147483648"),
        (lambda: Sample(seed=0.5), "received seed=0.5"),
        (lambda: Beam(0), "width must be an integer of at least 1; received width=0"),
        (lambda: Beam(2, n_best=3), "n_best must be at most width=2; received n_best=3"),
        (lambda: Beam(2, n_best=0), "n_best must be an integer of at least 1; received n_best=0"),
        (lambda: Beam(2, -0.5), "length_penalty must be a number from 0 to 10; .*=-0.5"),
        (lambda: Beam(2, float("inf")), "length_penalty must be a number from 0 to 10; .*=inf"),
        # ((5 + n) / 6) ** 50 leaves float32 before n is 400.
        (lambda: Beam(2, 50.0), "length_penalty must be a number from 0 to 10; .*=50.0"),
    ],
)
def test_bad_samplers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda t, s: ops.zeros((2, 3)), "step must return .logits, state. or .* received"),
        (lambda t, s: (ops.zeros(2), s), r"must return logits .* received logits of shape \(2,\)"),
        (lambda t, s: (ops.zeros((2, 3)), s[0]), "given .*float32.2, 4.*, received .*float32.2, 4"),
        (lambda t, s: (ops.zeros((2, 3)), [s[0][:, :1]]), r"received \['float32\[2, 1\]'\]"),
        (lambda t, s: (ops.zeros((2, 3)), [ops.cast(s[0], "float16")]), "'float16.2, 4.'"),
    ],
)
def test_step_functions_that_do_not_fit_are_refused(step, message):
    with pytest.raises(ValueError, match=message):
        decode(step, [np.zeros((2, 4), "float32")], [0, 1], "greedy", max_length=2)


def test_a_sampler_of_ones_own_needs_one_method():
    class Second(decoding.Sampler):
        def choose(self, logits, index):
            return ops.cast(ops.top_k(logits, 2)[1][:, 1], "int32")

    toy = Toy(4)
    second = lambda logits, index: int(np.argsort(-logits)[1])  # noqa: E731
    settings = {"end": None, "min_length": 0, "forbidden": ()}
    check_rows(toy, run(toy, Second(), **settings), lambda row: second, settings)
