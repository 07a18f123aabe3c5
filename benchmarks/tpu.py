"""Every form and cell compiled for a TPU that is not there: time, memory, FLOPs, collectives.

`libtpu` (from PyPI, Python 3.12 and later) compiles for a described topology without a device. What
is compiled is what `fit`, `step` and `generate` would run: each is called as a user calls it, and
the program that it asks for is compiled for one chip, and the trainings for a 2x2 slice with
`keras.distribution.DataParallel` too. Ends with an error where a program does not compile, has a
shape that is not fixed, or exchanges anything but gradients and a few numbers. FLOPs are XLA's own
count, which has the body of a loop once, however often it runs.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.devices import collectives
from benchmarks.turns import HERE, machine

CHIPS = 4
# Read once, when JAX begins: no TPU is looked for, the one described is a v5e of 4 chips, and as
# none is held several processes may compile at a time.
DESCRIBED = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
SCALARS = 256  # bytes of losses, weights and norms that one operation may exchange
DYNAMIC = re.compile(r"\[<=|set-dimension-size|get-dimension-size|PadToStatic|SliceToDynamic")
ROWS, VOCABULARY, UNITS = 32, 65, [128, 128]


class Compiled(Exception):
    """Carries a program out of the call that would have run it."""

    def __init__(self, program: Any, seconds: float, weights: list[int]):
        super().__init__("compiled, not run")
        self.program, self.seconds, self.weights = program, seconds, weights


class Compiler:
    """Compiles for the first `chips` of the described slice.

    Args:
        chips: 1, or 4 for the whole slice, over which the rows of data and carries are laid.
    """

    def __init__(self, chips: int):
        import jax
        from jax.experimental import topologies

        slice_ = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x2")
        self.mesh = jax.sharding.Mesh(np.array(slice_.devices[:chips]), ("batch",))
        self.parts = jax.sharding.PartitionSpec

    def shapes(self, values: Any, rows: bool) -> Any:
        """`values` as shapes laid over the mesh: by `rows`, or as they lie over this machine's."""
        import jax

        def one(value: Any) -> jax.ShapeDtypeStruct:
            spec = getattr(getattr(value, "sharding", None), "spec", self.parts())
            spec = self.parts("batch") if rows else spec
            laid = jax.sharding.NamedSharding(self.mesh, spec)
            return jax.ShapeDtypeStruct(np.shape(value), value.dtype, sharding=laid)

        return jax.tree.map(one, values)

    def compile(self, function: Callable, state: Any, data: Any, trains: bool) -> Compiled:
        """`function(state, data)` compiled, `data` laid out by rows where it trains."""
        import jax

        state, data = self.shapes(state, rows=False), self.shapes(data, rows=trains)
        out = (None, jax.tree.map(lambda s: s.sharding, state)) if trains else None
        begin = time.perf_counter()
        jitted = jax.jit(function, donate_argnums=0 if trains else (), out_shardings=out)
        program = jitted.lower(state, data).compile()
        # Keras's order: the trainable ones come first.
        weights = [w.size for w in state[0]] if trains else []
        return Compiled(program, time.perf_counter() - begin, weights)


def training(compiler: Compiler, model: Any, data: tuple, options: dict) -> list[Compiled]:
    """What `fit` would run for its first batch, through Keras's `train_step(state, data)`."""

    def step(state: tuple, iterator: Any) -> None:
        raise compiler.compile(model.train_step, state, next(iter(iterator)), trains=True)

    def make_train_function(force: bool = False) -> None:
        model.train_function = step

    model.make_train_function = make_train_function
    try:
        model.fit(*data, shuffle=False, verbose=0, **options)
    except Compiled as found:
        return [found]
    raise RuntimeError("fit ended without asking for a program")


def calling(compiler: Compiler, call: Callable) -> list[Compiled]:
    """All that `call`, a `step` or `generate`, runs through `rnnzoo.backend.compile_call`.

    Each is compiled for the TPU, and runs here too, as the next one needs what it gives.
    """
    import jax
    import keras

    import rnnzoo

    here, found = rnnzoo.backend.compile_call, []

    def compile_call(model: Any, function: Callable | None = None) -> Callable:
        called = function or (lambda inputs: model(inputs, training=False))

        def run(values: list, inputs: dict) -> Any:
            with keras.StatelessScope(state_mapping=list(zip(model.variables, values))):
                return called(inputs)

        def both(inputs: dict) -> Any:
            values = [v.value for v in model.variables]
            given = jax.tree.map(np.asarray, inputs)
            found.append(compiler.compile(run, values, given, trains=False))
            return here(model, function)(inputs)

        return both

    with mock.patch.object(rnnzoo.backend, "compile_call", compile_call):
        call()
    if not found:
        raise RuntimeError("the call ended without asking for a program")
    return found


def tokens(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCABULARY, shape).astype("int32")


def loss(**options: Any) -> Any:
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def train_one_to_one(
    compiler: Compiler,
    cell: str = "lstm",
    stride: int | None = None,
    policy: str = "float32",
    packed: bool = False,
    steps: int = 400,
    window: int | None = 50,
    units: list[int] = UNITS,
    **options: Any,
) -> list[Compiled]:
    """A character model on a stream of 8 windows a batch, or on packed sequences with resets."""
    import keras

    import rnnzoo

    keras.config.set_dtype_policy(policy)
    model = rnnzoo.one_to_one(vocabulary=VOCABULARY, units=units, cell=cell, **options)
    model.compile(
        keras.optimizers.Adam(1e-3, global_clipnorm=1.0), loss(reduction="mean_with_sample_weight")
    )
    callbacks = [rnnzoo.TruncatedBPTT(window, stride)] if window else []
    if packed:
        sequences = [tokens(n) for n in np.random.default_rng(1).integers(20, 900, 4 * ROWS)]
        data = rnnzoo.data.pack(sequences, ROWS, 50, windows_per_batch=steps // 50)
    else:
        data = rnnzoo.data.stream(tokens(ROWS * (steps + 1)), ROWS, 50, windows_per_batch=8)
    return training(compiler, model, (data,), {"callbacks": callbacks})


def train_many_to_one(compiler: Compiler, cell: str = "lstm") -> list[Compiled]:
    """Sequences of different length to one label each: a mask, and the last window's gradient."""
    import keras

    import rnnzoo

    model = rnnzoo.many_to_one(features=8, units=UNITS, outputs=10, cell=cell)
    model.compile(keras.optimizers.Adam(1e-3), loss())
    rng = np.random.default_rng(0)
    x = {"inputs": rng.normal(size=(ROWS, 400, 8)).astype("float32")}
    x["lengths"] = rng.integers(1, 401, ROWS).astype("int32")
    options = {"batch_size": ROWS, "callbacks": [rnnzoo.TruncatedBPTT(50)]}
    return training(compiler, model, (x, rng.integers(0, 10, ROWS)), options)


def translator(**options: Any) -> Any:
    import keras

    import rnnzoo

    sides = {"source_vocabulary": VOCABULARY, "target_vocabulary": VOCABULARY}
    model = rnnzoo.encoder_decoder(**sides, units=UNITS, **options)
    model.compile(keras.optimizers.Adam(1e-3), loss())
    return model


def train_encoder_decoder(compiler: Compiler, **options: Any) -> list[Compiled]:
    """Pairs with a mask on both sides, the target in windows of 20."""
    import rnnzoo

    lengths = np.random.default_rng(1).integers(1, 61, (2, ROWS)).astype("int32")
    x = {"source": tokens(ROWS, 60), "source_lengths": lengths[0]}
    x |= {"target": tokens(ROWS, 60), "target_lengths": lengths[1]}
    own = {"batch_size": ROWS, "callbacks": [rnnzoo.TruncatedBPTT(20)]}
    return training(compiler, translator(**options), (x,), own)


def step(compiler: Compiler, cell: str = "lstm") -> list[Compiled]:
    import rnnzoo

    model = rnnzoo.one_to_one(vocabulary=VOCABULARY, units=UNITS, cell=cell)
    return calling(compiler, lambda: model.step(tokens(ROWS, 1), model.initial_state(ROWS)))


def generate(compiler: Compiler, sampler: Any = "greedy") -> list[Compiled]:
    import rnnzoo

    sampler = rnnzoo.decoding.Beam(4) if sampler == "beam" else sampler
    model = rnnzoo.one_to_one(vocabulary=VOCABULARY, units=UNITS)
    return calling(compiler, lambda: model.generate(tokens(ROWS, 8), 64, sampler, end=0))


def translate(compiler: Compiler) -> list[Compiled]:
    model = translator(attention="dot")
    return calling(compiler, lambda: model.generate(tokens(ROWS, 20), 40))


TRAININGS = {
    "one_to_one, LSTM": (train_one_to_one, {}),
    "one_to_one, LSTM, 2x512": (train_one_to_one, {"units": [512, 512]}),
    "one_to_one, GRU": (train_one_to_one, {"cell": "gru"}),
    "one_to_one, SimpleRNN": (train_one_to_one, {"cell": "simple_rnn"}),
    "one_to_one, minGRU": (train_one_to_one, {"cell": "min_gru"}),
    "one_to_one, minLSTM": (train_one_to_one, {"cell": "min_lstm"}),
    "one_to_one, LRU": (train_one_to_one, {"cell": "lru"}),
    "one_to_one, RG-LRU": (train_one_to_one, {"cell": "rg_lru"}),
    "one_to_one, sLSTM": (train_one_to_one, {"cell": "slstm"}),
    "one_to_one, window 50, stride 20": (train_one_to_one, {"stride": 20}),
    "one_to_one, steps left over": (train_one_to_one, {"window": 60}),
    "one_to_one, no windows": (train_one_to_one, {"window": None}),
    "one_to_one, packed, resets": (train_one_to_one, {"packed": True}),
    "one_to_one, mixed_bfloat16": (train_one_to_one, {"policy": "mixed_bfloat16"}),
    "one_to_one, all options": (
        train_one_to_one,
        {
            "dropout": 0.2,
            "recurrent_dropout": 0.2,
            "residual": True,
            "layer_norm": True,
            "tied": True,
            "learned_initial_state": True,
        },
    ),
    "many_to_one, lengths, LSTM": (train_many_to_one, {}),
    "many_to_one, lengths, GRU": (train_many_to_one, {"cell": "gru"}),
    "encoder_decoder": (train_encoder_decoder, {}),
    "encoder_decoder, attention, bidirectional": (
        train_encoder_decoder,
        {"attention": "dot", "bidirectional": True},
    ),
    "encoder_decoder, input feeding": (
        train_encoder_decoder,
        {"attention": "additive", "input_feeding": True},
    ),
}
CALLS = {
    "step, LSTM": (step, {}),
    "step, GRU": (step, {"cell": "gru"}),
    "generate, greedy": (generate, {}),
    "generate, sample": (generate, {"sampler": "sample"}),
    "generate, beam of 4": (generate, {"sampler": "beam"}),
    "encoder_decoder, generate": (translate, {}),
}
CASES = TRAININGS | CALLS


def measure(name: str, compiler: Compiler) -> dict:
    """What compiling one case gives: a row of the table, and the faults that were found."""
    import keras

    keras.config.set_dtype_policy("float32")
    function, options = CASES[name]
    made = function(compiler, **options)
    texts = [one.program.as_text() for one in made]
    memory = [one.program.memory_analysis() for one in made]
    exchanged = [sum(a.bytes for a in arrays) for text in texts for _, arrays in collectives(text)]
    return {
        "programs": len(made),
        "seconds": sum(one.seconds for one in made),
        "arguments": max(one.argument_size_in_bytes for one in memory),
        "temporary": max(one.temp_size_in_bytes for one in memory),
        "flops": sum(one.program.cost_analysis().get("flops", 0.0) for one in made),
        "largest": max(exchanged, default=0),
        "operations": len(exchanged),
        "faults": [f for text, one in zip(texts, made) for f in faults(text, one.weights)],
    }


def faults(program: str, weights: list[int]) -> list[str]:
    """What a compiled program does that it must not.

    Args:
        program: its text.
        weights: the number of elements of each weight that has a gradient.
    """
    found = [f"a shape that is not fixed: {part}" for part in set(DYNAMIC.findall(program))]
    for kind, arrays in collectives(program):
        if kind != "all-reduce":
            found.append(f"{kind} of {sum(a.bytes for a in arrays):,} bytes")
        others = sum(a.bytes for a in arrays if a.elements not in weights)
        if others > SCALARS:
            found.append(f"{kind} of {others:,} bytes that are no gradient")
    return found


def compiled_on(chips: int, names: list[str]) -> None:
    """Prints a JSON object for each case, in a process with as many devices as `chips`."""
    import jax
    import keras

    if chips > 1:
        jax.config.update("jax_num_cpu_devices", chips)
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    compiler = Compiler(chips)
    for name in names:
        try:
            found = measure(name, compiler)
        except Exception as error:
            found = {"faults": [f"{type(error).__name__}: {str(error)[:500]}"]}
        print(json.dumps({"name": name, "chips": chips, **found}), flush=True)


def rows(names: list[str], chips: int) -> Iterator[dict]:
    """What `compiled_on` prints, as it comes, from a process of its own."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.tpu", "--on", str(chips)]
    process = subprocess.Popen(
        [*command, "--cases", *names],
        env={**os.environ, **DESCRIBED},
        cwd=HERE.parent,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"compiling for {chips} chips ended with code {process.returncode}")


def table(found: list[dict]) -> None:
    """Prints one row for each program, as in `benchmarks/TPU.md`."""
    names = ["case", "chips", "programs", "compiled in s", "arguments MB", "temporary MB"]
    names += ["GFLOP", "exchanges"]
    print(f"\n| {' | '.join(names)} |\n{'|---' * len(names)}|")
    for row in found:
        if "seconds" in row:
            sizes = [f"{row[key] / 1e6:.1f}" for key in ("arguments", "temporary")]
            cells = [row["name"], row["chips"], row["programs"], f"{row['seconds']:.1f}", *sizes]
            cells.append(f"{row['flops'] / 1e9:.2f}")
            many = f"{row['operations']} sums, {row['largest']:,} bytes at most"
            cells.append(many if row["operations"] else "nothing")
            print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--on", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.on:
        compiled_on(args.on, args.cases)
        return
    if importlib.util.find_spec("libtpu") is None:
        raise SystemExit(
            "libtpu is not installed, without which nothing compiles for a TPU: "
            "pip install libtpu, on Python 3.12 or later with a JAX of its time"
        )
    found, spread = [], [name for name in args.cases if name in TRAININGS]
    for chips, names in ((1, args.cases), (CHIPS, spread)):
        for row in rows(names, chips) if names else ():
            found.append(row)
            said = "; ".join(row["faults"]) or f"{row['seconds']:.0f} s"
            print(f"{row['name']}, {chips} chips: {said}", flush=True)
    table(found)
    print(f"\nlibtpu {importlib.metadata.version('libtpu')}, {machine()}")
    if wrong := [f"{row['name']}, {row['chips']} chips" for row in found if row["faults"]]:
        raise SystemExit(f"{len(wrong)} programs are not as they must be: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
