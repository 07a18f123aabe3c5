"""Options of the recipes that say on which devices a model is trained, and in which precision."""

import argparse
import contextlib
import functools
from collections.abc import Callable

import keras

STRATEGIES = {"none": None, "mirrored": "tensorflow", "tpu": "tensorflow", "processes": "jax"}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`parser` with `--strategy` and `--precision`."""
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="mirrored: all devices of this machine (TensorFlow); tpu (TensorFlow); "
        "processes: all devices of all processes that run this (JAX)",
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    return parser


def set_up(args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """The context in which the model is to be made and compiled.

    Raises:
        SystemExit: a strategy of the other backend.
    """
    needed, used = STRATEGIES[args.strategy], keras.backend.backend()
    if needed not in (None, used):
        raise SystemExit(
            f"--strategy {args.strategy} needs the Keras backend {needed}; received {used}. "
            f"Set KERAS_BACKEND={needed}."
        )
    keras.config.set_dtype_policy(args.precision)
    return _started(args.strategy)()


@functools.cache
def _started(name: str) -> Callable[[], contextlib.AbstractContextManager]:
    """What opens the scope of a strategy, which can be started once in a process."""
    if name == "none":
        return contextlib.nullcontext
    if name == "processes":
        import jax

        jax.distributed.initialize()
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        return contextlib.nullcontext
    import tensorflow as tf

    if name == "mirrored":
        return tf.distribute.MirroredStrategy().scope
    resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
    tf.config.experimental_connect_to_cluster(resolver)
    tf.tpu.experimental.initialize_tpu_system(resolver)
    return tf.distribute.TPUStrategy(resolver).scope


def least_lanes(model: keras.Model) -> int:
    """The fewest rows of a batch that the model takes: one for each device."""
    spread = keras.distribution.distribution()
    if spread is not None:
        return spread.device_mesh.shape[0]
    strategy = getattr(model, "distribute_strategy", None)
    return 1 if strategy is None else strategy.num_replicas_in_sync
