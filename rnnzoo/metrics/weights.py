"""Sample weights, brought to one weight for each step."""

from typing import Any

from keras import ops


def step_weights(given: Any, y_true: Any) -> Any:
    """Weights of the shape of `y_true`, from None or from its first axes."""
    if given is None:
        return ops.ones_like(y_true, dtype="float32")
    given = ops.cast(ops.convert_to_tensor(given), "float32")
    shape, rank = tuple(given.shape), len(y_true.shape)
    if len(shape) == rank + 1 and shape[-1] == 1:
        given = ops.squeeze(given, axis=-1)
    pairs = zip(given.shape, y_true.shape)
    if len(given.shape) > rank or not all(a in (None, 1, b) or b is None for a, b in pairs):
        raise ValueError(
            f"sample_weight must have the shape of the targets, {tuple(y_true.shape)}, or of "
            f"their first axes; received shape {shape}"
        )
    for _ in range(rank - len(given.shape)):
        given = ops.expand_dims(given, -1)
    return ops.broadcast_to(given, ops.shape(y_true))
