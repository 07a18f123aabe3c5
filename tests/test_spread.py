"""Training on several devices and in several processes ends where one device ends."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import rnnzoo
from rnnzoo import backend
from rnnzoo.feed import devices

if keras.backend.backend() != "jax":
    pytest.skip("keras.distribution is for JAX", allow_module_level=True)

import spread_runs

from benchmarks.devices import exchanged

PROGRAM = pathlib.Path(spread_runs.__file__)
RUNS = sorted(spread_runs.RUNS)
EVERY = pytest.mark.parametrize("run", RUNS)
SPREAD = ("several", "process 0", "process 1")
OWN = ("read", "layout")
PROGRAMS = "*jit_train_step*after_optimizations.txt"


def start(folder, devices, flags="", **variables):
    flags += f" {os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    paths = os.pathsep.join([str(PROGRAM.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": paths, **variables}
    with open(folder / f"{variables.get('SLURM_PROCID', 0)}.txt", "w") as output:
        command = [sys.executable, str(PROGRAM), str(folder)]
        return subprocess.Popen(command, env=env, stdout=output, stderr=subprocess.STDOUT)


def two_processes(folder):
    """As `srun --ntasks=2` starts them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    common = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2"}
    common |= {"JAX_COORDINATOR_PORT": port, "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    ranks = [{"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    return [start(folder, 2, **common | rank) for rank in ranks]


def codes_of(processes, seconds=240):
    """Exit codes, once all have ended or one has failed, which the others would wait for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        codes = [process.poll() for process in processes]
        if None not in codes or any(codes):
            break
        time.sleep(0.2)
    return codes


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What one device, four devices and two processes of two devices found."""
    several, many = (tmp_path_factory.mktemp(name) for name in ("several", "many"))
    flags = f"--xla_dump_to={several} --xla_dump_hlo_as_text"
    flags += " --xla_dump_hlo_module_re=.*train_step.*"
    # From the cache nothing would be compiled, and so nothing written down.
    started = [start(several, 4, flags, JAX_ENABLE_COMPILATION_CACHE="false")]
    started += two_processes(many)
    try:
        found = {f"{n}: {k}": v for n, run in spread_runs.RUNS.items() for k, v in run().items()}
        codes = codes_of(started)
    finally:
        for process in started:
            process.kill()
            process.wait()
    said = [path.read_text()[-3000:] for at in (several, many) for path in at.glob("?.txt")]
    assert codes == [0, 0, 0], "\n".join(said)
    at = {"several": several, "many": many}
    ends = {"one": found, "several": dict(np.load(several / "0.npz"))}
    return ends | {f"process {i}": dict(np.load(many / f"{i}.npz")) for i in (0, 1)} | {"at": at}


@EVERY
@pytest.mark.parametrize("where", SPREAD)
def test_weights_states_and_losses_are_those_of_one_device(ends, run, where):
    names = [n for n in ends["one"] if n.startswith(run) and n.split(": ")[1] not in OWN]
    assert any("weight" in name for name in names) and f"{run}: loss" in names
    assert ("stream: val_loss" in names) == (run == "stream")
    for name in names:
        np.testing.assert_allclose(ends[where][name], ends["one"][name], atol=1e-5, err_msg=name)


def test_a_lane_is_reset_wherever_it_lies(ends):
    rows = np.all(ends["process 1"]["pack: reset"] == 0, axis=1)
    assert np.flatnonzero(rows).tolist() == [1, 6]


def test_the_carry_lies_with_its_rows(ends):
    for where in SPREAD:
        assert str(ends[where]["stream: layout"]).startswith("P('batch'")


@EVERY
def test_each_process_reads_its_own_lanes_and_no_others(ends, run):
    name = f"{run}: read"
    own = [ends[f"process {i}"][name].tolist() for i in (0, 1)]
    assert sorted(own[0] + own[1]) == sorted(ends["one"][name].tolist())
    assert sorted(ends["several"][name].tolist()) == sorted(ends["one"][name].tolist())


def test_a_run_of_two_processes_goes_on_from_its_backup(ends):
    for i in (0, 1):
        found = ends[f"process {i}"]
        names = [name for name in found if name.startswith("resumed") and "read" not in name]
        assert "resumed: state h_0" in names
        for name in names:
            np.testing.assert_array_equal(found[name], found[name.replace("resumed", "stream")])
    assert {path.name for path in (ends["at"]["many"] / "backups").iterdir()} == {"4", "6"}


def test_what_two_processes_saved_is_whole(ends):
    model = keras.saving.load_model(ends["at"]["many"] / "model.keras")
    for i, weight in enumerate(model.trainable_weights):
        np.testing.assert_array_equal(weight, ends["process 0"][f"stream: weight {i}"])
    for name, value in model.states.items():
        np.testing.assert_array_equal(value, ends["process 0"][f"stream: state {name}"])


@pytest.mark.parametrize(
    ("where", "name", "words"),
    [
        ("several", "rows", ["multiple of 4 rows", "received 6 rows for 4 devices."]),
        ("several", "arrays", ["multiple of 4 rows", "received 3 rows"]),
        (
            "process 1",
            "rows",
            ["multiple of 4 rows", "3 rows for 2 devices in each of 2 processes"],
        ),
        ("process 1", "predict", ["must run in one process", "2 processes", "load it in one"]),
        ("process 1", "time", ["must be a number of batches", "seconds=60", "every=1000"]),
    ],
)
def test_what_cannot_be_is_refused(ends, where, name, words):
    text = str(ends[where][f"refused: {name}"])
    assert all(word in text for word in words), text


def test_one_process_of_several_devices_predicts(ends):
    assert "refused: predict" not in ends["several"]


def test_a_part_of_a_data_set_has_the_rows_of_every_batch():
    def made():
        return rnnzoo.data.pack(spread_runs.SONGS, 6, 4, shuffle=True, seed=2)

    parts = [made().shard(i, 3) for i in range(3)]
    for index, whole in enumerate(made()):
        rows = [keras.tree.flatten(part[index]) for part in parts]
        for value, *own in zip(keras.tree.flatten(whole), *rows):
            np.testing.assert_array_equal(value, np.concatenate(own))


def test_a_part_that_cannot_be_is_refused():
    data = rnnzoo.data.stream(spread_runs.TOKENS, 6, 4)
    with pytest.raises(ValueError, match="batch_size=6 for 4"):
        data.shard(0, 4)
    with pytest.raises(ValueError, match="less than count, 2; received index=2"):
        data.shard(2, 2)
    with pytest.raises(ValueError, match="a batch of 3 rows for 2"):
        rnnzoo.data.bucket(spread_runs.SONGS[:7], batch_size=4).shard(0, 2)


def test_data_sets_that_differ_from_process_to_process_are_refused(monkeypatch):
    monkeypatch.setattr(backend, "share", lambda: (0, 2))
    monkeypatch.setattr(backend, "from_all", lambda a: np.array([a, a + 1]))
    with pytest.raises(ValueError, match="must have the same data set"):
        devices.shared_out(rnnzoo.data.stream(spread_runs.TOKENS, 6, 4))


PROGRAM_TEXT = """
  %sum.1 = (f32[7,3]{1,0}, f32[7]{0}, /*index=2*/bf16[2,2]{1,0}, f32[]) all-reduce(%a, %b, %c)
  %part = f32[7,3]{1,0} get-tuple-element(%sum.1), index=0
  %rows = f32[4,8,3]{2,0,1} all-gather-start(%x), channel_id=1, dimensions={1}
"""


def test_the_bytes_of_a_compiled_program_are_counted():
    found = exchanged(PROGRAM_TEXT)
    assert found == {"all-reduce": [4 * 21 + 4 * 7 + 2 * 4 + 4], "all-gather": [4 * 96]}


def test_devices_exchange_the_gradient_and_no_rows(ends):
    """Also within the loop over windows: what was compiled for four devices is read."""
    programs = [exchanged(path.read_text()) for path in ends["at"]["several"].glob(PROGRAMS)]
    assert len(programs) > len(RUNS)
    for run in RUNS:
        weights = [v for name, v in ends["one"].items() if name.startswith(f"{run}: weight")]
        # Windows that overlap: a first, a last and those in the loop, which run the core twice.
        gradient = sum(w.nbytes for w in weights) * (4 if run == "pack" else 1)
        # Beside it, the sums and the counts of the losses: at most four numbers a place.
        assert any(0 <= sum(p["all-reduce"]) - gradient <= 48 for p in programs), (run, programs)
    assert all(list(program) == ["all-reduce"] for program in programs)


def test_a_recipe_trains_with_a_device_for_each_core(tmp_path):
    shutil.copytree(PROGRAM.parents[1] / "recipes", tmp_path / "recipes")
    options = ["--epochs", "1", "--seeds", "1", "--units", "4", "--strategy", "cores"]
    command = [sys.executable, str(tmp_path / "recipes" / "speaker.py"), *options]
    env = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[1])}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("test, mean")
