"""All that differs between TensorFlow and JAX; everything else in rnnzoo is `keras.ops`.

Both modules define the same names: `scan` (a loop over time), `project` (the inputs of all its
steps times a kernel), `custom_gradient` (a function with a hand-written gradient), `repeat` and
`when` (control flow that carries the training state), `carry_variable` (a weight that holds the
state of all lanes), `compile_call` (a function made callable in one compiled call), `values_of`
and `set_values` (what a variable holds, replica by replica), `replicas_and_scope` (how many keep
lanes of their own), `Buffer` (one tensor for each turn of a loop), `gpu_available` (where the
code will run). `share`, `devices` and `from_all` are for training with `keras.distribution`.
"""

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

__all__ = [
    "Buffer",
    "carry_variable",
    "compile_call",
    "custom_gradient",
    "devices",
    "from_all",
    "gpu_available",
    "project",
    "repeat",
    "replicas_and_scope",
    "scan",
    "set_values",
    "share",
    "values_of",
    "when",
]
