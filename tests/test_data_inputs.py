"""What all data sets take alike: texts, tables, several inputs by name, static values, weights."""

import keras
import numpy as np
import pytest

from rnnzoo.data import Vocabulary, bucket, pack, pairs, stream

LETTERS = Vocabulary("abcdef")


class Table:
    """A table or a column of one as pandas and polars have it, as far as we look at it."""

    def __init__(self, values, columns=None):
        self._values = np.array(values)
        if columns:
            self.columns = columns

    def to_numpy(self):
        return self._values

    def __iter__(self):
        return iter(getattr(self, "columns", self._values))

    def __len__(self):
        return len(self._values)


class Tokenizer:
    """One of another library: it has what a vocabulary must have, and no more."""

    def encode(self, text):
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, ids):
        return "".join(chr(i + ord("a")) for i in ids)

    def __len__(self):
        return 26


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        keras.tree.map_structure(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("vocabulary", [LETTERS, Tokenizer()])
def test_texts_are_encoded_by_the_vocabulary(vocabulary):
    ids = [[2, 0, 1], [3, 4]]
    texts, size = ["cab", "de"], len(vocabulary)
    same(stream("cabde", 1, 2, vocabulary=vocabulary), stream([2, 0, 1, 3, 4], 1, 2))
    same(pack(texts, 1, 2, vocabulary=vocabulary), pack(ids, 1, 2, vocabulary=size))
    same(bucket(["cab", ids[1]], vocabulary=vocabulary), bucket(ids))
    both = {"source_vocabulary": vocabulary, "target_vocabulary": LETTERS}
    same(pairs(texts, ["a", "f"], **both), pairs(ids, [[0], [5]]))


def test_a_column_or_table_is_the_array_that_it_holds():
    same(stream(Table([1, 2, 3]), 1, 2), stream(np.array([1, 2, 3]), 1, 2))
    rows = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    same(stream(Table(rows, ["a", "b"]), 1, 2), stream(np.array(rows), 1, 2))
    mixed = np.array([[1.0, True], [3.5, False], [5, np.int64(2)]], object)
    same(stream(Table(mixed, ["a", "b"]), 1, 2), stream(mixed.astype(float), 1, 2))
    with pytest.raises(ValueError, match="features of array must be numbers; received dtype obj"):
        stream(Table(np.array([[1.0, "2"], [3.0, "4"]], object), ["a", "b"]), 1, 2)
    tables, arrays = [Table(rows, ["a", "b"]), Table(rows[:2], ["a", "b"])], [rows, rows[:2]]
    same(pack(tables, 2, 1), pack(arrays, 2, 1))
    labels = Table([1, 0])
    same(bucket(tables, labels, sample_weight=labels), bucket(arrays, [1, 0], sample_weight=[1, 0]))
    with pytest.raises(
        ValueError, match=r"of shape \(steps,\) must hold integer tokens; .*float64"
    ):
        stream(Table([1.0, 2.0, 3.0]), 1, 2)
    with pytest.raises(ValueError, match="sequences must be a list .* give a list of tables"):
        pack(Table(rows, ["a", "b"]), 1, 2)


HOURS = np.arange(9) % 5
LOAD = np.arange(18.0).reshape(9, 2)


def test_several_inputs_go_side_by_side():
    data = stream({"load": LOAD, "hour": HOURS}, 2, 2, targets="load", vocabulary={"hour": 5})
    loads, hours = stream(LOAD, 2, 2), stream(HOURS, 2, 2)
    for (x, y, weight), (load, y_load, w), (hour, *_) in zip(data, loads, hours, strict=True):
        assert set(x) == {"load", "hour", "reset"}
        expected = (
            {"load": load["inputs"], "hour": hour["inputs"], "reset": load["reset"]},
            y_load,
        )
        same((x, y, weight), (*expected, w))


def test_columns_of_a_table_by_their_names_are_inputs():
    """Numbers `(n,)` have a name beside others, so that they can only be one feature."""
    load = LOAD[:, 0].astype("float32")
    column, given = (
        {"load": Table(load), "hour": Table(HOURS)},
        {"load": load[:, None], "hour": HOURS},
    )
    same(stream(column, 2, 2, targets="load"), stream(given, 2, 2, targets="load"))
    rows = [{name: [one[:4], one[4:]] for name, one in x.items()} for x in (
        {"load": load, "hour": HOURS}, given
    )]  # fmt: skip
    same(*(pack(one, 2, 2, targets="load") for one in rows))
    same(*(bucket(one) for one in rows))
    targets = [[1, 2], [3]]
    same(*(pairs(one, targets) for one in rows))


@pytest.mark.parametrize("make", [lambda x: pack(x, 2, 2, targets="load"), lambda x: bucket(x)])
def test_several_inputs_of_many_sequences(make):
    loads, hours = [LOAD[:4], LOAD[4:7], LOAD[7:]], [HOURS[:4], HOURS[4:7], HOURS[7:]]
    ids = [np.arange(len(one)) + 100 * i for i, one in enumerate(hours)]
    for x, *_ in make({"load": loads, "hour": hours, "place": ids}):
        real = np.ones(x["place"].shape, bool) if "reset" in x else x["mask"]
        for row, column in np.argwhere(real & (x["load"].any(axis=-1) | (x["place"] > 0))):
            sequence, step = divmod(int(x["place"][row, column]), 100)
            assert x["hour"][row, column] == hours[sequence][step]
            np.testing.assert_array_equal(x["load"][row, column], loads[sequence][step])


def test_static_values_come_once_for_a_row_and_with_each_step_in_a_lane_of_many():
    ids, store, place = [[1, 2, 3], [4, 5], [6, 7, 8, 9]], [7, 8, 9], [[0.5], [1.5], [2.5]]
    static = {"store": store, "place": place}
    (x,) = bucket(ids, static=static | {"size": [0.5, 1.5, 2.5]})[0]
    assert x.pop("size").tolist() == [[2.5], [0.5], [1.5]]  # one feature, as a column of steps
    assert x["store"].tolist() == [9, 7, 8] and x["store"].dtype == np.int32
    assert x["place"].tolist() == [[2.5], [0.5], [1.5]] and x["place"].dtype == np.float32
    x, *_ = pack(ids, 2, 4, static=static)[0]
    assert x["inputs"].tolist() == [[1, 2, 0, 0], [4, 6, 7, 8]]
    assert x["store"].tolist() == [[7, 7, 0, 0], [8, 9, 9, 9]] and x["place"].shape == (2, 4, 1)
    data = stream(np.arange(8), 2, 2, static={"store": 7, "place": [0.5, 1.0], "size": 0.5})
    for x, *_ in data:
        assert x["size"].tolist() == [[0.5]] * 2
        assert x["store"].tolist() == [7, 7] and x["place"].tolist() == [[0.5, 1.0]] * 2


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX reads the batches themselves")
def test_tensorflow_sees_which_inputs_have_steps():
    options = {"static": {"store": [7, 8]}}
    ids = [[1, 2, 3], [4, 5]]
    per_step = bucket(ids, ids, per_step=True, **options)
    for data in (bucket(ids, [0, 1], **options), per_step, pack(ids, 1, 2, **options)):
        same(data.get_tf_dataset(), data)
    same(
        stream(range(9), 2, 2, static={"store": 7}).get_tf_dataset(),
        stream(range(9), 2, 2, static={"store": 7}),
    )


def test_a_weight_is_that_of_the_step_as_target():
    ids, weights = [[1, 2, 3], [4, 5]], [[0.0, 2.0, 3.0], [0.0, 5.0]]
    _, y, weight = pack(ids, 1, 3, sample_weight=weights)[0]
    assert y.tolist() == weight.tolist() == [[2, 3, 5]]
    _, y, weight = pack(ids, 1, 5, targets=ids, sample_weight=[7, [4, 5]])[0]
    assert weight.tolist() == [[7, 7, 7, 4, 5]]
    _, y, weight = stream([1, 2, 3, 4], 2, 2, sample_weight=np.array([1, 2, 3, 4.0]))[0]
    assert y.tolist() == [[2, 3], [4, 0]] and weight.tolist() == y.tolist()


BAD = [
    (lambda: stream({"a": HOURS, "b": HOURS}, 2, 2), "targets must be arrays, or the name .*a, b"),
    (lambda: stream({"a": HOURS}, 2, 2, targets="b"), "one of a; received targets='b'"),
    (lambda: stream({"a": HOURS, "b": HOURS[1:]}, 2, 2), r"same numbers of steps; received \[9\]"),
    (
        lambda: bucket({"reset": [[1]]}),
        "names of sequences must be str, other than reset, .*'reset'",
    ),
    (lambda: bucket({1: [[1]]}), "names of sequences must be str, .* received 1"),
    (lambda: bucket({}), "sequences must be a dict by names, with at least one; received {}"),
    (lambda: bucket([[1]], static={"inputs": [1]}), "names of static must be str, .* 'inputs'"),
    (lambda: bucket([[1]], static={"id": [1, 2]}), r"static\['id'\] must have one entry .* is 1"),
    (lambda: bucket({"a": [[1]]}, vocabulary=3), "vocabulary must be a dict by names of inputs, a"),
    (lambda: bucket({"a": [[1]]}, vocabulary={"b": 3}), "names of inputs, a, .* received {'b': 3}"),
    (
        lambda: bucket([[1]], static={"id": [7]}, vocabulary={"inputs": 3, "id": 4}),
        r"static\['id'\] must lie in \[0, 3\]; received 7",
    ),
    (lambda: bucket({"a": [[1], [5]]}, vocabulary={"a": 3}), r"\['a'\]\[1\] must lie in \[0, 2\]"),
    (
        lambda: bucket(["abc"]),
        r"sequences\[0\] must hold numbers; .* 'abc': give the rnnzoo.data.Voc",
    ),
    (
        lambda: bucket(["xyz"], vocabulary=LETTERS),
        r"sequences\[0\] must hold tokens .* received 'x'",
    ),
    (lambda: pairs([[1]], [[9]], target_vocabulary=LETTERS), r"\(target_vocabulary=6\)"),
    (
        lambda: pairs([[1]], [[1]], source_vocabulary="a"),
        "source_vocabulary must be a number of tok",
    ),
    (
        lambda: pack([[1, 2]], 1, 1, sample_weight=[1, 2]),
        "sample_weight must have one entry for eac",
    ),
    (
        lambda: pack([[1, 2]], 1, 1, sample_weight=[[1]]),
        r"sample_weight\[0\] must be a number or 2",
    ),
    (
        lambda: stream([1, 2], 1, 1, sample_weight=[1, 1j]),
        "sample_weight must be 2 numbers, .*compl",
    ),
    (
        lambda: stream([1, 2], 1, 1, sample_weight=[1, np.nan]),
        "sample_weight must be finite; recei",
    ),
]


@pytest.mark.parametrize("call, message", BAD, ids=range(len(BAD)))
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
