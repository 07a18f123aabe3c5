"""Pairs: every pair once, padded and masked, like lengths together."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import rnnzoo
from rnnzoo.data import pairs, read_pairs


@hypothesis.given(
    lengths=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=20),
    batch_size=st.integers(1, 7),
    multiple=st.integers(1, 5),
    shuffle=st.booleans(),
)
def test_every_pair_comes_once_with_its_own_target(lengths, batch_size, multiple, shuffle):
    rng = np.random.default_rng(0)
    sources = [rng.integers(0, 50, n) for n, _ in lengths]
    targets = [rng.normal(size=(n, 2)) for _, n in lengths]
    options = {"shuffle": shuffle, "seed": 3, "pad_to_multiple_of": multiple}
    data = pairs(sources, targets, batch_size, **options)
    order, seen = data.order, 0
    assert sorted(order) == list(range(len(lengths)))
    for index in range(len(data)):
        (x,) = data[index]
        assert set(x) == {"source", "source_mask", "target", "target_mask"}
        rows = order[seen : seen + len(x["source"])]
        seen += len(rows)
        for side, arrays in (("source", sources), ("target", targets)):
            longest = max(len(arrays[i]) for i in rows)
            assert x[side].shape[1] == -(-longest // multiple) * multiple
            for row, i in enumerate(rows):
                np.testing.assert_array_equal(
                    x[side][row][x[f"{side}_mask"][row]], arrays[i].astype(x[side].dtype)
                )
                assert not x[side][row][~x[f"{side}_mask"][row]].any()
    assert seen == len(lengths)


def test_few_lengths_on_each_side():
    random = np.random.default_rng(0)
    sizes = np.ceil(random.lognormal(3, 0.5, (2000, 2))).astype(int)
    data = pairs([np.zeros(n, int) for n, _ in sizes], [np.zeros(n, int) for _, n in sizes], 16)
    for side in ("source", "target"):
        assert len({x[side].shape[1] for (x,) in data}) <= 16


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: pairs([[1]], [[1], [2]]), "every source must have one target; received 1"),
        (lambda: pairs([[1], []], [[1], [2]]), r"sources\[1\] must have at least one step"),
        (lambda: pairs([[1]], [[1], [7]], target_vocabulary=5), r"values of targets\[1\] must lie"),
        (
            lambda: pairs([[1]], [[1]], static={"k": [7]}, source_vocabulary={"k": 5}),
            r"received 7 at sequence 0 \(source_vocabulary\['k'\]=5\)",
        ),
        (lambda: pairs([], []), "sources must hold at least one sequence"),
    ],
)
def test_bad_pairs(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "content, message",
    [
        ("a\tb\nc d\n", "line 2: must be a source, a tab and a target; received 'c d'"),
        ("a\t\n", "line 1"),
        ("\n\n", "must hold at least one pair; received none"),
    ],
)
def test_bad_pair_files(tmp_path, content, message):
    path = tmp_path / "pairs.tsv"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_pairs(path)


def test_only_line_feeds_end_a_pair(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("a\u2028b\tc\x0cd\r\ne\x85f\tg\n", newline="")
    assert read_pairs(path) == (["a\u2028b", "e\x85f"], ["c\x0cd", "g"])


def test_strings_train_as_their_tokens_do():
    letters = rnnzoo.data.Vocabulary("abcd")
    model = rnnzoo.encoder_decoder(source_vocabulary=letters, target_vocabulary=letters, units=4)
    model.compile("sgd", "sparse_categorical_crossentropy")
    strings = {"source": ["ab", "c"], "target": ["ba", "cc"]}
    ids = {side: [letters.encode(text) for text in texts] for side, texts in strings.items()}
    assert model.evaluate(strings, verbose=0) == model.evaluate(ids, verbose=0)
    before = model.evaluate(ids, verbose=0)
    model.fit(strings, verbose=0)
    assert model.evaluate(ids, verbose=0) < before
    told = model.fit(strings, sample_weight=[1.0, 2.0], validation_split=0.5, verbose=0).history
    second = {side: rows[1:] for side, rows in ids.items()}
    assert told["val_loss"] == pytest.approx([2 * model.evaluate(second, verbose=0)], rel=1e-5)
    with pytest.raises(ValueError, match="source must be .* received Vocabulary"):
        model.fit({**strings, "source": letters}, verbose=0)
