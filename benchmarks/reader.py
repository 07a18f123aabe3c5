"""Reads altered files, one after the other, and prints what became of each: a part of `altered`."""

import hashlib
import json
import resource
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

import rnnzoo
from benchmarks import alterations

SECRET = "a file outside of what was given"
# None of these belongs to the reading of a file, from whichever library.
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")
FORBIDDEN += (
    "socket.connect",
    "pickle.find_class",
    "os.putenv",
    "ctypes.dlopen",
    "webbrowser.open",
)
MEMORY = 12 * 2**30
TEMPORARY = str(Path(tempfile.gettempdir(), "tmp"))  # what libraries write for a moment

seen: list[str] = []  # what the watch saw in the present case


def watch(folder: Path) -> None:
    """Notes forbidden events, code from nowhere, and files outside of `folder`, from now on."""
    secret = str(folder / "secret.json")
    libraries = tuple(path for path in sys.path if path)

    def look(event: str, given: tuple) -> None:
        if event in FORBIDDEN or (event == "import" and given[0] == alterations.CANARY):
            seen.append(f"{event} {given}"[:200])
        elif event == "exec" and not given[0].co_filename.startswith(("<", *libraries)):
            seen.append(f"exec {given}"[:200])
        elif event == "open" and isinstance(given[0], str):
            path, mode = given[0], str(given[1] or "r")
            inside = path.startswith((str(folder / "case"), "/proc", "/dev", TEMPORARY))
            if secret in str(Path(path).resolve()) or path == "/etc/passwd":
                seen.append(f"open {path}")
            elif any(letter in mode for letter in "wax+") and not inside:
                seen.append(f"open {path} {mode}")

    sys.addaudithook(look)


def small_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    vocabulary = rnnzoo.data.Vocabulary("abcd")
    model = rnnzoo.one_to_one(vocabulary=vocabulary, units=[3, 3], embedding=2, dropout=0.1)
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=[rnnzoo.metrics.Perplexity()],
        jit_compile=False,
    )
    return model


def keras_file(folder: Path) -> tuple[Callable, Callable]:
    original = folder / "original.keras"
    model = small_model()
    tokens = np.arange(12, dtype="int32").reshape(2, 6) % 4
    model.fit(tokens, tokens, verbose=0)
    model.save(original)
    content = original.read_bytes()

    def alter(case: Path, rng: np.random.Generator) -> None:
        kind = alterations.of_bytes if rng.random() < 0.3 else alterations.of_zip
        (case / "model.keras").write_bytes(kind(content, rng))

    def read(case: Path) -> None:
        loaded = rnnzoo.load_model(case / "model.keras")
        state = loaded.initial_state(2)
        given = {"inputs": tokens, "reset": tokens < 1}
        loaded.core({**keras.tree.map_structure(keras.ops.array, given), **state})

    return alter, read


def backup(folder: Path) -> tuple[Callable, Callable]:
    model = small_model()
    tokens = np.arange(48, dtype="int32").reshape(8, 6) % 4

    def train(path: Path, epochs: int) -> None:
        data = {"inputs": tokens, "reset": tokens < 1}
        called = [rnnzoo.BackupAndResume(path, every=3)]
        model.fit(data, tokens, batch_size=2, epochs=epochs, verbose=0, callbacks=called)

    train(folder / "original", 2)
    numbers = [path.name for path in (folder / "original").iterdir()]

    def alter(case: Path, rng: np.random.Generator) -> None:
        for number in numbers:
            shutil.copytree(folder / "original" / number, case / number)
            name = ["arrays.npz", "backup.json", "SHA256SUMS"][rng.integers(3)]
            path = case / number / name
            whole = path.read_bytes()
            if name == "SHA256SUMS" or rng.random() < 0.3:
                path.write_bytes(alterations.of_bytes(whole, rng))
                continue
            kind = alterations.of_zip if name == "arrays.npz" else alterations.of_json
            path.write_bytes(kind(whole, rng))
            sums = case / number / "SHA256SUMS"
            before, after = (hashlib.sha256(c).hexdigest() for c in (whole, path.read_bytes()))
            sums.write_text(sums.read_text().replace(before, after))

    return alter, lambda case: train(case, 3)


def manifest(folder: Path) -> tuple[Callable, Callable]:
    original = small_model().export(folder / "original" / "1")
    name = Path("assets.extra", "rnnzoo.json")
    content = (original / name).read_bytes()

    def alter(case: Path, rng: np.random.Generator) -> None:
        shutil.copytree(original, case, dirs_exist_ok=True)
        kind = alterations.of_bytes if rng.random() < 0.25 else alterations.of_json
        (case / name).write_bytes(kind(content, rng))

    def read(case: Path) -> None:
        served = rnnzoo.load_served(case)
        stream = served.new_stream()
        stream.step(np.ones(2, "int32"))

    return alter, read


def copy(original: Path, case: Path) -> None:
    if original.is_dir():
        shutil.copytree(original, case)
    else:
        case.mkdir()
        shutil.copy(original, case / "model.keras")


def main(kind: str, folder: str, seed: int, start: int, stop: int) -> None:
    folder = Path(folder)
    (folder / "secret.json").write_text(json.dumps(SECRET))
    alter, read = {"keras": keras_file, "backup": backup, "manifest": manifest}[kind](folder)
    whole = {"keras": "original.keras", "backup": "original", "manifest": "original/1"}[kind]
    copy(folder / whole, folder / "case")
    read(folder / "case")  # what is not altered is read
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    case = folder / "case"
    watch(folder)
    for number in range(start, stop):
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir()
        alter(case, np.random.default_rng([seed, number]))
        seen.clear()
        row = {"result": "loaded"}
        try:
            read(case)
        except Exception as error:
            row = {"result": "refused", "error": type(error).__name__, "text": str(error)[:300]}
            if not str(error).strip() or not isinstance(error, ValueError):
                row["result"] = "not a clear error"
                row["text"] = f"{type(error).__name__}: {row['text']}"
        if seen:
            row |= {"result": "code", "text": "; ".join(seen)}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
