"""Beam search: against exhaustive search, and against beam search in plain Python."""

import decoding_toys
import numpy as np
import pytest
from decoding_toys import MEMORY, Toy, plain_beam, plain_rows, score_of
from hypothesis import given
from hypothesis import strategies as st

from rnnzoo.decoding import Beam

TOKENS, SEEN = [0, 1, 2], [0, 4, 2]


def run(toy, beam, tokens=TOKENS, seen=SEEN, **settings):
    return decoding_toys.run(toy, beam, tokens, seen, **settings)


SETTINGS = st.fixed_dictionaries(
    {
        "end": st.sampled_from([None, 0, 2]),
        "min_length": st.integers(0, 3),
        "forbidden": st.sampled_from([(), (1,)]),
    }
)
PENALTIES = st.sampled_from([0.0, 0.6, 1.0, 2.0])


def check(toy, found, width, length, penalty, settings, limits=None):
    """`found` is what plain Python finds; None as width for an exhaustive search."""
    end, best = settings["end"], found.scores.shape[1]
    for row, (token, seen) in enumerate(zip(TOKENS, SEEN)):
        limit = length if limits is None else limits[row]
        expected = plain_beam(toy, token, seen, width, limit, penalty=penalty, **settings)[:best]
        for slot, (score, tokens) in enumerate(expected):
            assert found.tokens[row, slot].tolist() == tokens + [end or 0] * (length - len(tokens))
            assert found.lengths[row, slot] == len(tokens)
            np.testing.assert_allclose(found.scores[row, slot], score, rtol=1e-5, atol=1e-5)
        assert np.all(found.scores[row, len(expected) :] == -np.inf)
        assert np.all(found.lengths[row, len(expected) :] == 0)
        assert np.all(found.tokens[row, len(expected) :] == (end or 0))


@given(seed=st.integers(0, 10**6), settings=SETTINGS, penalty=PENALTIES)
def test_at_full_width_it_is_an_exhaustive_search(seed, settings, penalty):
    toy = Toy(seed, vocabulary=3)
    found = run(toy, Beam(81, penalty, n_best=6), max_length=4, **settings)
    check(toy, found, None, 4, penalty, settings)


@given(
    seed=st.integers(0, 10**6),
    settings=SETTINGS,
    penalty=PENALTIES,
    width=st.sampled_from([2, 3, 7]),
    n_best=st.sampled_from([1, 2]),
    limits=st.sampled_from([None, [5, 0, 3]]),
)
def test_at_any_width_it_is_the_plain_search(seed, settings, penalty, width, n_best, limits):
    """Which runs to its end, so stopping early loses nothing."""
    toy = Toy(seed)
    found = run(toy, Beam(width, penalty, n_best), max_length=5, limits=limits, **settings)
    check(toy, found, width, 5, penalty, settings, limits)


@given(
    seed=st.integers(0, 10**6),
    settings=SETTINGS,
    penalty=PENALTIES,
    width=st.sampled_from([2, 5, 20]),
)
def test_scores_are_those_of_the_tokens(seed, settings, penalty, width):
    toy, end = Toy(seed, vocabulary=5), settings["end"]
    found = run(toy, Beam(width, penalty, n_best=width), max_length=4, **settings)
    assert np.all(found.scores[:, 1:] <= found.scores[:, :-1])
    for row, (token, seen) in enumerate(zip(TOKENS, SEEN)):
        there = found.scores[row] > -np.inf
        lengths, tokens = found.lengths[row][there], found.tokens[row][there]
        assert len({(n, *t) for n, t in zip(lengths, tokens)}) == len(lengths) > 1
        for slot, (length, hypothesis) in enumerate(zip(lengths, tokens)):
            score, _ = score_of(toy, token, seen, hypothesis.tolist(), length, end, penalty)
            np.testing.assert_allclose(found.scores[row, slot], score, rtol=1e-5, atol=1e-5)
            inside = hypothesis[:length]
            assert not set(inside) & {*settings["forbidden"], end}
            assert end is None or length >= settings["min_length"]


@given(seed=st.integers(0, 10**6), settings=SETTINGS)
def test_one_beam_is_greedy(seed, settings):
    toy = Toy(seed)
    beam = run(toy, Beam(1), max_length=6, **settings)
    greedy = run(toy, "greedy", max_length=6, **settings)
    np.testing.assert_array_equal(beam.tokens[:, 0], greedy.tokens)
    np.testing.assert_array_equal(beam.lengths[:, 0], greedy.lengths)
    np.testing.assert_allclose(beam.scores[:, 0], greedy.scores, rtol=1e-5)


def test_it_finds_what_greedy_misses():
    """0.6 * 0.5 is less than 0.4 * 0.9, though 0.6 comes first."""
    table = {0: [0.0, 0.6, 0.4], 1: [0.5, 0.0, 0.5], 2: [0.9, 0.1, 0.0]}
    toy = Toy(0, vocabulary=3)
    with np.errstate(divide="ignore"):
        toy.table[:] = np.log([table[token] for token in range(3)])
    greedy = run(toy, "greedy", max_length=2, end=0, tokens=[0], seen=[0])
    assert greedy.tokens.tolist() == [[1, 0]]
    found = run(toy, Beam(2, n_best=2), max_length=2, end=0, tokens=[0], seen=[0])
    assert found.tokens.tolist() == [[[2, 0], [1, 0]]]
    np.testing.assert_allclose(np.exp(found.scores), [[0.36, 0.3]], rtol=1e-5)
    assert found.state is None and found.last is None


def test_an_ended_hypothesis_is_frozen_while_others_go_on():
    """It is the best at once, and still has its score and its place many steps later."""
    toy = Toy(0, vocabulary=3)
    with np.errstate(divide="ignore"):
        toy.table[:] = np.log([0.5, 0.3, 0.2])
    found = run(toy, Beam(3, n_best=3), max_length=8, end=0, tokens=[1], seen=[0])
    np.testing.assert_allclose(np.exp(found.scores), [[0.5, 0.15, 0.1]], rtol=1e-5)
    assert found.tokens[0, :, 0].tolist() == [0, 1, 2]
    assert np.all(found.tokens[0, :, 1:] == 0)
    assert found.lengths.tolist() == [[0, 1, 1]]


def test_equals_come_lower_beam_first_then_lower_token():
    toy = Toy(0, vocabulary=3)
    toy.table[:] = 0.0
    found = run(toy, Beam(4, n_best=4), max_length=2, tokens=[0], seen=[0])
    assert found.tokens.tolist() == [[[0, 0], [0, 1], [0, 2], [1, 0]]]


def test_a_longer_hypothesis_wins_by_its_length():
    toy = Toy(0, vocabulary=3)
    toy.table[:] = np.log([0.5, 0.49, 0.01])
    short = run(toy, Beam(4), max_length=6, end=0, tokens=[1], seen=[0])
    long = run(toy, Beam(4, length_penalty=3.0), max_length=6, end=0, tokens=[1], seen=[0])
    assert short.lengths.tolist() == [[0]] and long.lengths.tolist() == [[5]]
    score = (5 * np.log(0.49) + np.log(0.5)) / (11 / 6) ** 3  # the end token counts
    np.testing.assert_allclose(long.scores[0, 0], score, rtol=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_the_alignment_is_that_of_the_hypothesis(penalty):
    toy = Toy(4, aligned=True)
    found = run(toy, Beam(5, penalty, n_best=5), max_length=6, end=2)
    assert found.alignment.shape == (3, 5, 6, MEMORY)
    assert len(set(found.lengths.ravel())) > 1
    for row, (token, seen) in enumerate(zip(TOKENS, SEEN)):
        for slot in range(5):
            tokens, length = found.tokens[row, slot].tolist(), found.lengths[row, slot]
            _, trail = score_of(toy, token, seen, tokens, length, 2, penalty)
            expected = np.zeros((6, MEMORY))
            expected[np.arange(len(trail)), trail] = 1
            np.testing.assert_array_equal(found.alignment[row, slot], expected)


def test_a_start_token_that_is_the_end_token_does_not_end_anything():
    toy = Toy(7)
    found = run(toy, Beam(3), max_length=4, end=2, tokens=[2], seen=[1], limits=[0])
    assert (found.lengths.tolist(), found.scores.tolist()) == ([[0]], [[0.0]])
    found = run(toy, Beam(1), max_length=4, end=2, tokens=[2], seen=[1], min_length=1)
    expected, score, *_ = plain_rows(toy, 2, 1, lambda x, i: int(np.argmax(x)), 4, 2, 1)
    assert found.tokens[0, 0, : len(expected)].tolist() == expected
    np.testing.assert_allclose(found.scores[0, 0], score, rtol=1e-5)


def test_one_that_has_ended_is_taken_before_an_equal_that_would_go_on():
    """Token 0 lies in the lower slot, but can only lose what it has."""
    toy = Toy(0, vocabulary=3)
    toy.table[:] = [0.0, 0.0, -100.0]
    found = run(toy, Beam(2), max_length=5, end=1, tokens=[0], seen=[0])
    assert (found.tokens.tolist(), found.lengths.tolist()) == ([[[1] * 5]], [[0]])
    np.testing.assert_allclose(found.scores, [[np.log(0.5)]], rtol=1e-6)
