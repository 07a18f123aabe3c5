"""The benchmarks, on sizes that take no time: contestants compute the same, and tables come out."""

import ast
import importlib.util
import itertools
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from benchmarks import (
    cases,
    contestant,
    devices,
    generation,
    layer_contestant,
    learning,
    tpu,
    turns,
    whole,
)
from benchmarks import generation_contestant as writing
from benchmarks.gpu import results
from rnnzoo.layers.stack import CELLS

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


TRANSLATION = cases.Whole(5, 0, 4, 7, rows=2, steps=3, target=2, ragged=False, batches=8)
LABELS = cases.Whole(None, 2, 4, 3, rows=2, steps=4, target=0, ragged=True, batches=8)


@pytest.mark.parametrize("case", [TRANSLATION, LABELS], ids=["translation", "labels"])
def test_whole_sequences_are_trained_on_the_same_losses(case):
    (ours, seconds), (stock, _) = (
        make(case, 24) for make in (whole.rnnzoo_model, whole.stock_model)
    )
    assert ours == pytest.approx(stock, rel=1e-5)
    assert seconds > 0
    per_batch = 2 * 3 if case.vocabulary else 2 * 4
    assert 0 < whole.counted(case, 8) <= 8 * per_batch


def test_what_is_written_by_a_beam_of_one_is_what_is_written_greedily():
    greedy, beam = (writing.Writing([4], 2, width) for width in (0, 1))
    tokens = np.asarray(writing.rnnzoo_loop(greedy, 6)())
    model, total = writing.rnnzoo_model(greedy), np.zeros(2)
    logits = model.predict(np.concatenate([greedy.prompt, tokens], axis=1), verbose=0)
    logs = keras.ops.convert_to_numpy(keras.ops.log_softmax(logits))
    for place in range(6):
        total += logs[np.arange(2), 2 + place, tokens[:, place]]
    np.testing.assert_allclose(writing.rnnzoo_loop(beam, 6)(), total, rtol=1e-5)
    found = {"A": [{"found": tokens.tolist()}], "B": [{"found": (tokens + 1).tolist()}]}
    generation.check_found({"greedy": {"A": found["A"], "B": found["A"]}})
    with pytest.raises(SystemExit, match="greedy: B do not write what the first does"):
        generation.check_found({"greedy": found})


def test_the_operations_of_a_layer_are_counted_as_products():
    # Inputs (3 x 5) and state (5 x 5) for four gates, at 2 rows and 7 steps; a product is 2 each.
    assert layer_contestant.operations("LSTM", (2, 7, 3, 5)) == 2 * 2 * 7 * (3 + 5) * 4 * 5


def test_the_table_has_medians_ranges_and_ratios(capsys):
    rows = {"rnnzoo JAX": [{"rate": 30.0}, {"rate": 10.0}, {"rate": 20.0}]}
    turns.table({"words": rows | {"PyTorch": [{"rate": 40.0}]}}, "rate", "PyTorch")
    line = next(x for x in capsys.readouterr().out.splitlines() if "rnnzoo JAX" in x)
    assert line.split() == "rnnzoo JAX 20 [10 .. 30] 0.50 of PyTorch".split()


BENCHMARKS = Path(turns.__file__).parent


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_imports_of_rnnzoo_is_there(path):
    """Within functions too: it is found missing only at the end of a long measurement."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "rnnzoo":
            module = importlib.import_module(node.module)
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                assert hasattr(module, alias.name) or importlib.util.find_spec(name), name


def test_a_ring_sends_every_byte_twice_but_for_its_own_part():
    assert devices.ring(8e9, 4, rate=1e9, delay=0.0) == pytest.approx(2 * 3 / 4 * 8)
    assert devices.ring(0, 4, rate=1e9, delay=0.5) == pytest.approx(3.0)
    assert devices.ring(8e9, 1, rate=1e9, delay=0.5) == 0


def test_few_combinations_hold_every_choice_of_so_many_options():
    combinations = [{"a": a, "b": b, "c": c} for a in range(3) for b in range(2) for c in range(4)]
    for together, most in ((1, 4), (2, 15), (3, 24)):
        few = learning.covering(combinations, together)
        assert 4 <= len(few) <= most
        for names in itertools.combinations("abc", together):
            found, wanted = ({tuple(o[n] for n in names) for o in c} for c in (few, combinations))
            assert found == wanted


LEARNT = {  # of the grid in small: options, size of the data, updates, nats under the frequencies
    "one_to_one": ({"units": [24], "cell": "gru"}, 10_000, 160, 0.5),
    "many_to_one": ({"units": [24], "layer_norm": True}, 120, 60, 1.2),
    "encoder_decoder": (
        {"units": [24], "attention": "dot", "bidirectional": True, "dropout": 0.2},
        600,
        100,
        0.35,
    ),
}


@pytest.mark.parametrize("form", LEARNT)
def test_a_model_of_each_form_learns_more_than_frequencies(form):
    options, size, updates, under = LEARNT[form]
    keras.utils.set_random_seed(0)
    task = learning.TASKS[form](size)
    losses = task.fit(options, updates, jit_compile=False)
    assert losses[-1] < task.floor - under


def test_the_grid_has_what_the_forms_allow_and_tells_what_was_run():
    grid = learning.grid("encoder_decoder")
    assert any(o["shared"] for o in grid) and any(o["bidirectional"] for o in grid)
    assert not any(o["shared"] and o["bidirectional"] for o in grid)
    row = {"form": "many_to_one", "options": "cell=gru, units=[48, 48]", "loss": 0.5}
    rows = [
        {**row, "wanted": 1.4, "learned": True},
        {**row, "loss": 2.0, "wanted": 1.4, "learned": False},
    ]
    told = learning.summary(rows)
    assert "| many_to_one | units=[48, 48] | 2 | 1 | 1.250 | 2.000 | 1.400 |" in told


GPU = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.sh"
PARTS = 13


def run_gpu(tmp_path, *arguments):
    env = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable, "COMMIT": "abc1234"}
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    none = tmp_path / "nvidia-smi"
    none.write_text("#!/bin/sh\nexit 9\n")
    none.chmod(0o755)
    command = ["bash", str(GPU), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=500)


def test_every_part_of_the_gpu_script_runs_dry_on_a_cpu(tmp_path):
    done = run_gpu(tmp_path, "--tiny")
    text = (tmp_path / "GPU.md").read_text()
    assert done.returncode == 0, text + (tmp_path / "gpu.log").read_text()[-3000:]
    head, *parts = text.split("\n## ")
    assert "commit abc1234" in head and "a dry run" in head
    assert len(parts) == PARTS
    torch = importlib.util.find_spec("torch")
    for part in parts:
        rows = [line for line in part.splitlines() if line.startswith("| ")][2:]
        if "PyTorch" in part.splitlines()[0] and not torch:
            assert "PyTorch is not installed." in part and not rows
        else:
            assert rows
        for row in rows:  # TorchRL's own kernels need a GPU
            assert "WRONG" not in row and ("FAILED" not in row or "TorchRL" in row)


@pytest.mark.parametrize(
    "arguments, message",
    [([], "needs a GPU, and nvidia-smi finds none"), (["--small"], "--tiny or nothing; received")],
)
def test_the_gpu_script_refuses_to_measure_something_else(tmp_path, arguments, message):
    done = run_gpu(tmp_path, *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "GPU.md").exists()


def test_what_a_gpu_finds_is_compared_by_the_largest_value_of_each_array():
    expected = [np.array([100.0, -1.0]), np.zeros(2), np.zeros((0, 3))]
    assert results.difference([np.array([100.5, -1.0]), *expected[1:]], expected) == 0.005
    assert results.difference([np.array([100.0, np.nan]), *expected[1:]], expected) == np.inf
    assert results.difference([expected[0], np.array([0.0, 1.0]), expected[2]], expected) > 1
    with pytest.raises(ValueError):
        results.difference(expected[:2], expected)


def test_every_cell_and_form_is_compiled_for_a_tpu():
    cells = {options.get("cell", "lstm") for _, options in tpu.TRAININGS.values()}
    assert cells == set(CELLS)
    forms = {name.split(",")[0] for name in tpu.TRAININGS}
    assert forms == {"one_to_one", "many_to_one", "encoder_decoder"}


GRADIENT = "  %a = (f32[8,4]{1,0:T(8,128)}, f32[]) all-reduce(%x, %y), channel_id=1"


@pytest.mark.parametrize(
    "line, fault",
    [
        ("", None),
        ("  %b = bf16[4,8]{1,0} all-reduce-start(%x)", None),
        ("  %b = f32[32,8]{1,0} all-gather(%x)", "all-gather of 1,024 bytes"),
        ("  %b = f32[32,8]{1,0} all-reduce(%x)", "all-reduce of 1,024 bytes that are no gradient"),
        ("  %b = f32[<=32,8]{1,0} add(%x, %y)", "not fixed: [<="),
    ],
)
def test_what_chips_exchange_beside_the_gradient_is_a_fault(line, fault):
    found = tpu.faults(f"{GRADIENT}\n{line}", weights=[32, 5])
    assert bool(found) == bool(fault)
    assert not fault or fault in found[0]
    assert devices.exchanged(GRADIENT) == {"all-reduce": [132]}
