"""A model folder for Triton: the ONNX step, whose state the server keeps for each sequence."""

import pathlib

from rnnzoo.export.onnx import write_onnx
from rnnzoo.export.signatures import Signature
from rnnzoo.export.traced import step_of

_TYPES = {"float32": "TYPE_FP32", "float64": "TYPE_FP64", "int32": "TYPE_INT32"}

_CONFIG = """\
# One step of each sequence a request. The server keeps the state of every sequence by
# its id, gives zeros to a new one, and sets `reset` where the client says that one begins.
name: {name}
backend: "onnxruntime"
default_model_filename: "step.onnx"
max_batch_size: 64
{inputs}
{outputs}
sequence_batching {{
  max_sequence_idle_microseconds: 60000000
  oldest {{
    max_candidate_sequences: 1024
    max_queue_delay_microseconds: 1000
  }}
  control_input [
    {{
      name: "reset"
      control [
        {{
          kind: CONTROL_SEQUENCE_START
          bool_false_true: [ false, true ]
        }}
      ]
    }}
  ]
{states}
}}
"""

_TENSOR = """\
{kind} [
  {{
    name: {name}
    data_type: {type}
    dims: [ {dims} ]{reshape}
  }}
]"""

_STATE = """\
  state [
    {{
      input_name: {name}
      output_name: {name_out}
      data_type: {type}
      dims: [ {dims} ]
      initial_state: {{
        data_type: {type}
        dims: [ {dims} ]
        zero_data: true
        name: {zeros}
      }}
    }}
  ]"""


def write_triton(
    signatures: dict[str, Signature], path: pathlib.Path, name: str
) -> dict[str, dict]:
    """Writes `step.onnx`, and `config.pbtxt` beside it; returns what it takes and gives.

    Args:
        signatures: those of a one-to-one or many-to-one model. A learned initial state works
            too: `reset` sets it, whatever the state is.
        path: the folder of the version; Triton wants `config.pbtxt` one folder above it.
        name: the model's name for Triton, that of its folder.

    Raises:
        ValueError: a model without the signature `step`, or whose step takes no reset.
    """
    signature = step_of(signatures, "triton")
    if "reset" not in signature.inputs:
        raise ValueError(
            "format='triton' lets the server reset streams and needs a model that takes 'reset'; "
            f"received one whose step takes {', '.join(signature.inputs)}"
        )
    tables = write_onnx({"step": signature}, path)
    text = config_of(name, tables["step"])
    (path / "config.pbtxt").write_text(text, encoding="utf-8")
    return tables


def config_of(name: str, step: dict[str, dict]) -> str:
    """The text of `config.pbtxt` for a model called `name`, whose `step` takes and gives this."""
    states = [key for key in step["inputs"] if f"{key}_out" in step["outputs"]]
    kept = {"reset", *states, *(f"{key}_out" for key in states)}

    def tensors(kind: str) -> str:
        shown = {key: spec for key, spec in step[f"{kind}s"].items() if key not in kept}
        return "\n".join(_TENSOR.format(kind=kind, **_fields(*one)) for one in shown.items())

    return _CONFIG.format(
        name=_text(name),
        inputs=tensors("input"),
        outputs=tensors("output"),
        states="\n".join(_STATE.format(**_fields(key, step["inputs"][key])) for key in states),
    )


def check_config(written: pathlib.Path, path: pathlib.Path, overwrite: bool) -> None:
    """FileExistsError where the versions beside `path` have another `config.pbtxt` to keep.

    All versions of a model have one configuration. That of another model, or of one with other
    states, would make the versions that are there unusable.

    Args:
        written: the folder that was written aside.
        path: the folder that it is to become.
        overwrite: whether another configuration may be replaced.
    """
    kept = path.parent / "config.pbtxt"
    if overwrite or not kept.exists():
        return
    if kept.read_bytes() != (written / "config.pbtxt").read_bytes():
        raise FileExistsError(
            "the versions of a model for Triton must have the same config.pbtxt; received a model "
            f"with another one than {str(kept)!r}, overwrite=False. Choose another name or pass "
            "overwrite=True."
        )


def _text(value: str) -> str:
    """`value` as a string of protobuf's text format."""
    special = {ord(c): f"\\{c}" for c in '"\\'} | {c: f"\\{c:03o}" for c in (*range(32), 127)}
    return f'"{value.translate(special)}"'


def _fields(name: str, spec: dict) -> dict[str, str]:
    sizes = spec["shape"][1:]
    dims = ", ".join(str(-1 if size is None else size) for size in sizes or [1])
    # A tensor has at least one axis for Triton, beside that of the batch.
    reshape = "" if sizes else "\n    reshape: { shape: [ ] }"
    names = {"name": name, "name_out": f"{name}_out", "zeros": f"zeros of {name}"}
    texts = {key: _text(value) for key, value in names.items()}
    return {**texts, "type": _TYPES[spec["dtype"]], "dims": dims, "reshape": reshape}
