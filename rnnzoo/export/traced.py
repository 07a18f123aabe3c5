"""Signatures on their way to another format: their shapes, and what the format needs installed."""

import importlib
from typing import Any

from rnnzoo.export.signatures import Signature


def specs_of(signature: Signature, batch: int | None = None, steps: int | None = None) -> dict:
    """The `tf.TensorSpec` of each input.

    Args:
        signature: the signature.
        batch: rows; None leaves them open.
        steps: steps of a call's inputs; None leaves them open.
    """
    import tensorflow as tf

    def shape(key: str, sizes: tuple) -> tuple:
        if steps is not None and key in signature.stepped and sizes[:1] == (None,):
            sizes = (steps, *sizes[1:])
        return (batch, *sizes)

    return {
        key: tf.TensorSpec(shape(key, sizes), dtype, name=key)
        for key, (sizes, dtype) in signature.inputs.items()
    }


def step_of(signatures: dict[str, Signature], format: str) -> Signature:
    """The signature `step`; ValueError that names `format` where a model has none."""
    if "step" not in signatures:
        raise ValueError(
            f"format={format!r} writes the signature step of one-to-one and many-to-one models; "
            f"received a model that has {', '.join(signatures)} alone"
        )
    return signatures["step"]


def described(specs: dict[str, Any]) -> dict[str, dict]:
    """`specs` as the manifest has them."""
    return {
        key: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
        for key, spec in sorted(specs.items())
    }


def described_signatures(signatures: Any) -> dict[str, dict]:
    """The signatures of a SavedModel as the manifest has them."""
    return {
        name: {
            "inputs": described(signature.structured_input_signature[1]),
            "outputs": described(signature.structured_outputs),
        }
        for name, signature in sorted(signatures.items())
    }


def needed(option: str, module: str, extra: str) -> Any:
    """The module that an option of `export` needs; ImportError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{option} must have the package {module.split('.')[0]}; received none "
            f"(pip install 'rnnzoo[{extra}]')"
        ) from error
