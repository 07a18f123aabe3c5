"""A model folder for Triton: the ONNX step, whose state the server keeps for each sequence."""

import pathlib

from rnnzoo.serving.signatures import Signature
from rnnzoo.serving.to_onnx import write_onnx

_TYPES = {"float32": "TYPE_FP32", "float64": "TYPE_FP64", "int32": "TYPE_INT32"}

_CONFIG = """\
# {name}: one step of each sequence a request. The server keeps the state of every sequence by
# its id, gives zeros to a new one, and sets `reset` where the client says that one begins.
name: "{name}"
backend: "onnxruntime"
default_model_filename: "step.onnx"
max_batch_size: {rows}
{inputs}
{outputs}
sequence_batching {{
  max_sequence_idle_microseconds: {idle}
  oldest {{
    max_candidate_sequences: {streams}
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
    name: "{name}"
    data_type: {type}
    dims: [ {dims} ]
  }}
]"""

_STATE = """\
  state [
    {{
      input_name: "{name}"
      output_name: "{name}_out"
      data_type: {type}
      dims: [ {dims} ]
      initial_state: {{
        data_type: {type}
        dims: [ {dims} ]
        zero_data: true
        name: "zeros of {name}"
      }}
    }}
  ]"""


def write_triton(
    signatures: dict[str, Signature],
    path: pathlib.Path,
    name: str,
    *,
    rows: int = 64,
    streams: int = 1024,
    idle_seconds: float = 60.0,
) -> dict[str, dict]:
    """Writes `step.onnx`, and `config.pbtxt` beside it; returns what it takes and gives.

    Args:
        signatures: those of a one-to-one or many-to-one model. A learned initial state works
            too: `reset` sets it, whatever the state is.
        path: the folder of the version; Triton wants `config.pbtxt` one folder above it, where
            `config_of` says it to be.
        name: the model's name for Triton, that of its folder.
        rows: sequences that step together at most.
        streams: sequences that the server holds at most.
        idle_seconds: after which a sequence is dropped.

    Raises:
        ValueError: a model without the signature `step`.
    """
    if "step" not in signatures:
        raise ValueError(
            "format='triton' writes the signature step of one-to-one and many-to-one models; "
            f"received an encoder-decoder, which has {', '.join(signatures)}"
        )
    tables = write_onnx({"step": signatures["step"]}, path)
    step = tables["step"]
    states = [key for key in step["inputs"] if f"{key}_out" in step["outputs"]]
    text = _CONFIG.format(
        name=name,
        rows=rows,
        streams=streams,
        idle=int(idle_seconds * 1e6),
        inputs=_TENSOR.format(kind="input", **_fields("inputs", step["inputs"]["inputs"])),
        outputs=_TENSOR.format(kind="output", **_fields("outputs", step["outputs"]["outputs"])),
        states="\n".join(_STATE.format(**_fields(key, step["inputs"][key])) for key in states),
    )
    (path / "config.pbtxt").write_text(text, encoding="utf-8")
    return tables


def _fields(name: str, spec: dict) -> dict[str, str]:
    dims = ", ".join(str(-1 if size is None else size) for size in spec["shape"][1:])
    return {"name": name, "type": _TYPES[spec["dtype"]], "dims": dims}
