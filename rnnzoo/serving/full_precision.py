"""A model that computes in half precision, made to compute in float32, with the same weights."""

from typing import Any

from rnnzoo.backend.keras_internals import every_layer


def in_full_precision(model: Any) -> Any:
    """`model`, or where it computes in half precision a model of float32 with its weights.

    Runtimes beside TensorFlow have no half precision, or have it for some operations only.
    The weights are float32 in either, so nothing is lost.
    """
    policies = {layer.dtype_policy.compute_dtype for layer in every_layer(model)}
    if not policies & {"float16", "bfloat16"}:
        return model
    twin = type(model).from_config(_in_float32(model.get_config()))
    for name in ("core", "encoder", "decoder"):
        if hasattr(model, name):
            getattr(twin, name).set_weights(getattr(model, name).get_weights())
    return twin


def _in_float32(config: Any) -> Any:
    """`config` with every dtype policy in it that of float32."""
    if isinstance(config, (list, tuple)):
        return type(config)(_in_float32(value) for value in config)
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "DTypePolicy":
        return {**config, "config": {"name": "float32"}}
    return {key: _in_float32(value) for key, value in config.items()}
