"""The benchmarks, on sizes that take no time: contestants compute the same, and tables come out."""

import keras
import pytest

from benchmarks import cases, contestant, devices, layer_contestant, turns

if keras.backend.backend() == "jax":
    pytest.skip("run on TensorFlow; nothing here depends on the backend", allow_module_level=True)

TOKENS = cases.Case(7, 0, 3, [4], 7, lanes=2, window=5, windows=8)
VALUES = cases.Case(None, 2, 0, [4, 3], 1, lanes=2, window=5, windows=8)


@pytest.mark.parametrize("case", [TOKENS, VALUES], ids=["tokens", "values"])
def test_rnnzoo_and_stock_keras_train_on_the_same_losses(case):
    found = [make(case, 24) for make in (contestant.rnnzoo_model, contestant.stock_model)]
    (ours, seconds), (stock, _) = found
    assert ours == pytest.approx(stock, rel=1e-5)
    assert seconds > 0


def test_the_operations_of_a_layer_are_counted_as_products():
    # Inputs (3 x 5) and state (5 x 5) for four gates, at 2 rows and 7 steps; a product is 2 each.
    assert layer_contestant.operations("LSTM", (2, 7, 3, 5)) == 2 * 2 * 7 * (3 + 5) * 4 * 5


def test_the_table_has_medians_ranges_and_ratios(capsys):
    rows = {"rnnzoo JAX": [{"rate": 30.0}, {"rate": 10.0}, {"rate": 20.0}]}
    turns.table({"words": rows | {"PyTorch": [{"rate": 40.0}]}}, "rate", "PyTorch")
    line = next(x for x in capsys.readouterr().out.splitlines() if "rnnzoo JAX" in x)
    assert line.split() == "rnnzoo JAX 20 [10 .. 30] 0.50 of PyTorch".split()


def test_a_ring_sends_every_byte_twice_but_for_its_own_part():
    assert devices.ring(8e9, 4, rate=1e9, delay=0.0) == pytest.approx(2 * 3 / 4 * 8)
    assert devices.ring(0, 4, rate=1e9, delay=0.5) == pytest.approx(3.0)
    assert devices.ring(8e9, 1, rate=1e9, delay=0.5) == 0
