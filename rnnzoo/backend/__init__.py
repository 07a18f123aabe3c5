"""All that differs between TensorFlow and JAX; everything else in rnnzoo is `keras.ops`.

Both modules define the same names: `scan` (a loop over time), `loop` (one that is differentiated
step by step), `project` (the inputs of all its
steps times a kernel), `custom_gradient` (a function with a hand-written gradient), `repeat` and
`when` (control flow that carries the training state), `carry_variable` (a weight that holds the
state of all lanes), `compile_call` (a function made callable in one compiled call), `values_of`
and `set_values` (what a variable holds, replica by replica), `replicas_and_scope` (how many keep
lanes of their own), `Buffer` (one tensor for each turn of a loop), `gpu_available` (where the
code will run), `CUDNN` and `PADDED` (which layers of Keras run on it there, and which with rows of
different length), `padded_lstm` (such a run of LSTM layers), `tanh` (in any precision),
`is_open` (sizes yet unknown). `share`, `devices` and `from_all` are for training with
`keras.distribution`.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import keras

from rnnzoo.backend.processes import devices, from_all, share

_NAME = keras.backend.backend()

if _NAME == "tensorflow":
    from rnnzoo.backend import tensorflow as _implementation
elif _NAME == "jax":
    from rnnzoo.backend import jax as _implementation
else:
    raise ImportError(
        "rnnzoo runs on the Keras backends 'tensorflow' and 'jax'; "
        f"received KERAS_BACKEND={_NAME!r}. Set KERAS_BACKEND=tensorflow before Python starts."
    )

Buffer = _implementation.Buffer
CUDNN = _implementation.CUDNN
PADDED = _implementation.PADDED
loop = _implementation.loop
tanh = _implementation.tanh
is_open = _implementation.is_open
scan = _implementation.scan
project = _implementation.project
custom_gradient = _implementation.custom_gradient
repeat = _implementation.repeat
when = _implementation.when
carry_variable = _implementation.carry_variable
compile_call = _implementation.compile_call
values_of = _implementation.values_of
set_values = _implementation.set_values
replicas_and_scope = _implementation.replicas_and_scope
gpu_available = _implementation.gpu_available
padded_lstm = _implementation.padded_lstm

# Of the thread, or task, that sets it: another may be tracing a training step meanwhile.
_portable: contextvars.ContextVar[bool] = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Inside, layers are traced without cuDNN, so that an export runs on any machine."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def cudnn_runs(layer: str, padded: bool = False) -> bool:
    """Whether Keras's layer of this name, traced now, may run on cuDNN; `padded` with a mask."""
    fits = layer in (PADDED if padded else CUDNN)
    return fits and not _portable.get() and gpu_available() and devices() == 1


__all__ = [
    "CUDNN",
    "PADDED",
    "Buffer",
    "carry_variable",
    "compile_call",
    "cudnn_runs",
    "custom_gradient",
    "devices",
    "from_all",
    "gpu_available",
    "is_open",
    "loop",
    "padded_lstm",
    "portable",
    "project",
    "repeat",
    "replicas_and_scope",
    "scan",
    "set_values",
    "share",
    "tanh",
    "values_of",
    "when",
]
