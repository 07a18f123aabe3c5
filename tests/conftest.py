"""Settings shared by all tests: fixed seeds, no time limits within hypothesis."""

import hypothesis
import keras
import pytest

hypothesis.settings.register_profile(
    "rnnzoo",
    deadline=None,
    derandomize=True,
    max_examples=4 if keras.backend.backend() == "jax" else 12,  # JAX compiles every new shape
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("rnnzoo")


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(7)
