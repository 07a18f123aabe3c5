"""The training step of the backend in use."""

import keras

if keras.backend.backend() == "jax":
    from rnnzoo.training.step_jax import BackendStep
else:
    from rnnzoo.training.step_tensorflow import BackendStep

__all__ = ["BackendStep"]
