"""Requests with which TensorFlow Serving warms a model up before it answers the first client."""

import pathlib

import numpy as np

from rnnzoo.export.traced import needed

# Where TensorFlow Serving looks for them.
FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")

# Inputs that must not be 0 for a request to be a real one.
_ONES = ("max_length", "steps", "samples")
_ONES += ("lengths", "prompt_lengths", "source_lengths", "target_lengths")


def write_warm_up(tables: dict[str, dict], path: pathlib.Path, name: str, text: str) -> None:
    """Writes one request for each signature: one row, one step, zeros.

    Args:
        tables: for each signature its `inputs` with dtype and shape of each.
        path: the folder of the SavedModel.
        name: the model's name for the server.
        text: one that the model knows, where a signature takes strings.
    """
    import tensorflow as tf

    package = "tensorflow_serving.apis"
    predict = needed("warm_up=True", f"{package}.predict_pb2", "tf-serving")
    logs = needed("warm_up=True", f"{package}.prediction_log_pb2", "tf-serving")
    (path / FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / FILE)) as writer:
        for signature, table in tables.items():
            request = predict.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, spec in table["inputs"].items():
                value = tf.make_tensor_proto(_value(key, spec, text))
                request.inputs[key].CopyFrom(value)
            log = logs.PredictionLog(predict_log=logs.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _value(key: str, spec: dict, text: str) -> np.ndarray:
    shape = [1 if size is None else size for size in spec["shape"]]
    if spec["dtype"] == "string":
        return np.full(shape, text.encode(), object)
    fill = 1 if key in _ONES or spec["dtype"] == "bool" else 0
    return np.full(shape, fill, spec["dtype"])
