"""LiteRT: the signature `step` of one stream, in built-in operations only."""

import pathlib
import tempfile
from typing import Any

from rnnzoo.backend import portable
from rnnzoo.export.signatures import Signature
from rnnzoo.export.traced import described, specs_of, step_of


def write_litert(
    signatures: dict[str, Signature], weights: list, path: pathlib.Path
) -> dict[str, dict]:
    """Writes `step.tflite`, for one row and one step, and returns what it takes and gives.

    Args:
        signatures: those of a one-to-one or many-to-one model.
        weights: the weights that they read.
        path: the folder to make.

    Raises:
        ValueError: a model without the signature `step`, or with words of any length.
    """
    import tensorflow as tf

    step = step_of(signatures, "litert")
    specs = specs_of(step, batch=1, steps=1)
    if named := [name for name, spec in specs.items() if not spec.shape.is_fully_defined()]:
        raise ValueError(
            "format='litert' writes a step whose inputs all have fixed sizes; received "
            f"{', '.join(named)} with as many characters as a word has. Use format='onnx'."
        )

    def function(**inputs: Any) -> dict:
        return step.function(inputs)

    module = tf.Module()
    module.kept = [weight.value for weight in weights]
    with tempfile.TemporaryDirectory() as folder:
        with portable():
            module.step = tf.function(function, autograph=False)
            concrete = module.step.get_concrete_function(**specs)
            tf.saved_model.save(module, folder, signatures={"step": concrete})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["step"])
        content = converter.convert()
    path.mkdir(parents=True, exist_ok=True)
    (path / "step.tflite").write_bytes(content)
    outputs = concrete.structured_outputs
    return {"step": {"inputs": described(specs), "outputs": described(outputs)}}
