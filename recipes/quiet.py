"""TensorFlow without what it says of a machine that has no GPU, for recipes to print their own."""

import os
import sys
import tempfile

# Written as TensorFlow's libraries are loaded, before any of its settings is read.
NOTES = (
    b"All log messages before absl::InitializeLog() is called",
    b"oneDNN custom operations are on.",
    b"Could not find cuda drivers on your machine",
)


def load_tensorflow() -> None:
    """Imports TensorFlow, which Keras does on JAX too, and lets all but these notes through.

    Afterwards TensorFlow logs what is fatal; errors that matter are raised. At level 2 it would
    say that no GPU could be started where there is none.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            written.seek(0)
            for line in written:
                if not any(note in line for note in NOTES):
                    os.write(2, line)
