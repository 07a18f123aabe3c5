"""Settings shared by all tests: fixed seeds, no time limits within hypothesis."""

import gc
import os
import pathlib
import threading
from importlib import metadata

# JAX compiles a program for every model anew, also one that it has compiled before: most of
# the time of these tests. Its cache on disk keeps it to one compilation each.
CACHE = pathlib.Path(__file__).resolve().parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

# Both backends: programs run for a moment here, so compiling them well does not pay. Most of the
# time went into how XLA joins operations on the CPU, and into modules for threads that two cores
# do not have. XLA ends a process that gives it a flag it does not know.
FAST = "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0 "
FAST += "--xla_cpu_parallel_codegen_split_count=1"
if metadata.version("jaxlib") < "0.11":
    FAST += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FAST)

import hypothesis
import pytest

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")

hypothesis.settings.register_profile(
    "rnnzoo",
    deadline=None,
    derandomize=True,
    max_examples=3 if BACKEND == "jax" else 8,  # JAX compiles every new shape
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("rnnzoo")

# These use no backend, or start processes of their own: once is enough.
if BACKEND == "jax":
    collect_ignore = ["test_project.py", "test_files.py", "test_curves.py", "test_data_text.py"]
    collect_ignore += ["test_altered.py", "test_devices.py", "test_makefile.py"]


def pytest_configure(config):
    """Ready the backend, but in the process that hands tests out to workers: it needs none.

    TensorFlow gets two devices for the tests of strategies; they cannot be had once it is at
    work. Its graphs are left as they are traced: rewriting them takes a fifth of the time of
    these tests.
    """
    if getattr(config.option, "numprocesses", None):
        return
    if BACKEND == "jax":
        _share_contexts()
    if BACKEND != "tensorflow":
        return
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    (cpu,) = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)


def _share_contexts():
    """Let JAX write down many programs in one MLIR context, in place of one context for each.

    Making them takes a sixth of the time of these tests, which compile thousands of programs.
    """
    from jax._src.interpreters import mlir

    make, kept = getattr(mlir, "make_ir_context", None), threading.local()
    if make is None:  # another JAX than those that this was tried with
        return

    def shared():
        kept.uses = getattr(kept, "uses", 0) + 1
        if kept.uses % 500 == 1:  # what is in a context is never freed
            kept.context = make()
        return kept.context

    mlir.make_ir_context = shared


# The longest first, or at the end one worker waits for the other: half a minute and more of each
# part. Most of these have few tests, which xdist would leave for the last.
LONGEST = "history cells benchmarks devices recipes truncation model_heads export_writing backup "
LONGEST += "strangers grid zoo from_keras encoder_decoder_training readme model stream_service"
LONGEST = [f"test_{name}.py" for name in LONGEST.split()]


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(autouse=True)
def _seeded():
    import keras

    keras.utils.set_random_seed(7)


@pytest.fixture(scope="module")
def xla():
    """Compiles all on TensorFlow too, as what comes often is; left to the rule, tests are short."""
    with pytest.MonkeyPatch.context() as patch:
        if BACKEND == "tensorflow":
            patch.setattr("rnnzoo.training.step_tensorflow.LEAST", 0.0)
        yield


@pytest.fixture(scope="module", autouse=True)
def _garbage():
    """Collected once, after each module: a pass over all that a backend keeps takes seconds."""
    gc.disable()
    yield
    if BACKEND == "tensorflow":
        _forget_gradients()
    else:
        _forget_programs()
    gc.collect()
    gc.freeze()


def _forget_programs():
    """Drop what JAX compiled, where that takes many pieces of memory: Linux grants 65,530.

    XLA ends the process at the next one.
    """
    import jax

    pieces = pathlib.Path("/proc/self/maps")
    if pieces.exists() and pieces.read_text().count("\n") > 40_000:
        jax.clear_caches()


def _forget_gradients():
    """Drop the gradients that TensorFlow lists by name for good, each with the graph it is of.

    Models of a module are gone with it, and all that was traced would take gigabytes.
    """
    from tensorflow.python.framework import ops

    listed = ops.gradient_registry._registry
    for name in [name for name in listed if name.startswith("CustomGradient-")]:
        del listed[name]
