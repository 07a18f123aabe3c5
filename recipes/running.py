"""Options of the recipes on how a model is trained: devices, precision, backups."""

import argparse
import contextlib
import os
from pathlib import Path

import keras

import rnnzoo

STRATEGIES = {"none": None, "mirrored": "tensorflow", "tpu": "tensorflow"}
STRATEGIES |= {"cores": "jax", "processes": "jax"}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def add_options(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`parser` with `--strategy`, `--precision` and `--backups`."""
    parser.add_argument(
        "--strategy",
        choices=STRATEGIES,
        default="none",
        help="mirrored: all devices of this machine (TensorFlow); tpu (TensorFlow); "
        "cores: each processor core as a device (JAX); processes: all devices of all processes "
        "that run this (JAX)",
    )
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    help = "a folder: run the same command again, and training goes on where it was stopped"
    parser.add_argument("--backups", type=Path, help=help)
    return parser


def safeguards(args: argparse.Namespace, run: str = "") -> list[keras.callbacks.Callback]:
    """With `--backups`: those of one of the runs, and a stop at the first bad batch."""
    if args.backups is None:
        return []
    return [rnnzoo.StopOnDivergence(), rnnzoo.BackupAndResume(args.backups / run)]


def set_up(args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """The scope in which models are to be made and compiled, which may be entered often.

    To be called once, before anything is computed.

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
    if args.strategy == "mirrored":
        import tensorflow as tf

        return Scope(tf.distribute.MirroredStrategy())
    if args.strategy == "tpu":
        import tensorflow as tf

        resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return Scope(tf.distribute.TPUStrategy(resolver))
    if args.strategy == "cores":
        import jax

        jax.config.update("jax_num_cpu_devices", os.cpu_count())
    if args.strategy == "processes":
        # Under Slurm, Open MPI and on Cloud TPU the processes find one another; elsewhere they
        # are told by KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID.
        keras.distribution.initialize()
    if needed == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    return contextlib.nullcontext()


def parse(
    parser: argparse.ArgumentParser,
) -> tuple[argparse.Namespace, contextlib.AbstractContextManager]:
    """The arguments, those of this module too, and the scope for the model."""
    args = add_options(parser).parse_args()
    return args, set_up(args)


class Scope(contextlib.AbstractContextManager):
    """The scope of a `tf.distribute` strategy; its own can be entered only once."""

    def __init__(self, strategy):
        self.strategy, self.inside = strategy, None

    def __enter__(self) -> None:
        self.inside = self.strategy.scope()
        self.inside.__enter__()

    def __exit__(self, *error) -> None:
        self.inside.__exit__(*error)


def least_lanes(model: keras.Model) -> int:
    """The fewest rows of a batch that the model takes: one for each device."""
    spread = keras.distribution.distribution()
    if spread is not None:
        return spread.device_mesh.shape[0]
    strategy = getattr(model, "distribute_strategy", None)
    return 1 if strategy is None else strategy.num_replicas_in_sync
