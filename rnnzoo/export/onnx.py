"""ONNX: one file for each signature, state in and state out, run by onnxruntime."""

import pathlib
from typing import Any

from rnnzoo.backend import portable
from rnnzoo.export.signatures import Signature
from rnnzoo.export.traced import described, needed, specs_of

# The opset of ONNX 1.12: all of Triton's and onnxruntime's releases of today read it.
_OPSET = 17


def write_onnx(signatures: dict[str, Signature], path: pathlib.Path) -> dict[str, dict]:
    """Writes `<signature>.onnx` for each, and returns what they take and give.

    Signatures that step take one step, without a loop; the others any number.
    """
    path.mkdir(parents=True, exist_ok=True)
    return {
        name: _convert(signature, path / f"{name}.onnx", 1 if name in STEPPING else None)
        for name, signature in signatures.items()
    }


STEPPING = ("step", "decode_step")


def _convert(signature: Signature, file: pathlib.Path, steps: int | None) -> dict:
    convert = needed("format='onnx'", "tf2onnx.convert", "onnx")
    import tensorflow as tf

    specs = specs_of(signature, steps=steps)
    with portable():
        function = tf.function(signature.function, input_signature=[specs], autograph=False)
        handlers = {"SelectV2": (_select, [])}
        convert.from_function(
            function,
            input_signature=[specs],
            opset=_OPSET,
            custom_op_handlers=handlers,
            output_path=str(file),
        )
        outputs = function.get_concrete_function().structured_outputs
    return {"inputs": described(specs), "outputs": described(outputs)}


def _select(ctx: Any, node: Any, name: str, args: Any) -> None:
    """A select as `Where`: tf2onnx multiplies by 0 and 1, and 0 * NaN would pass a reset."""
    node.type = "Where"
