"""Every Python block of the README and of the pages in docs runs as printed, in its order."""

import pathlib
import pkgutil
import re

import keras
import numpy as np
import pytest
from reference import on_jax, without_collectives

import rnnzoo

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = {path.name: path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
BLOCKS = {
    name: re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) for name, text in TEXTS.items()
}
BLOCKS = {name: blocks for name, blocks in BLOCKS.items() if blocks}


def given():
    """The names of which the text speaks, as small arrays."""
    rng = np.random.default_rng(0)

    def ids(*shape):
        return rng.integers(0, 4, shape)

    def normal(*shape):
        return rng.normal(size=shape).astype("float32")

    letters = rnnzoo.data.Vocabulary("abcdefghijklmnopqrstuvwxyz")
    return {
        "keras": keras,
        "rnnzoo": rnnzoo,
        "np": np,
        "batch_size": 2,
        "letters": letters,
        "phonemes": rnnzoo.data.Vocabulary("ABCD"),
        "known": rnnzoo.data.Vocabulary(["the", "cat"], level="word", unknown=True),
        "tokens": [["the", "cat"], ["a", "cat"]],
        "tags": [ids(2), ids(2)],
        "words": [list(ids(3)), list(ids(5))],
        "sounds": [list(ids(2)), list(ids(4))],
        "data": rnnzoo.data.stream(ids(4 * 51), 4, 25, vocabulary=65),
        "text": "ROMEO: but soft, what light",
        "songs": [ids(50), ids(90), ids(60), *(ids(45) for _ in range(6))],
        "utterances": [normal(length, 3) for length in (3, 5, 4)],
        "labels": np.array([0, 1, 2]),
        "sources": [ids(4), ids(2)],
        "targets": [ids(3), ids(3)],
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }


def series_of_loads(rng):
    """Two meters: what came before, what is known of the hours to come, all of it in a list."""
    load = rng.normal(5.0, 1.0, (2, 240, 1)).astype("float32")
    hour, meters = np.tile(np.arange(240) % 24, (2, 1)), np.arange(2)
    read = {"load": load[:, :60], "hour": hour[:, :60]}
    whole = [{"load": load[i], "hour": hour[i], "meter": meters[i]} for i in range(2)]
    return {
        **{**read, "meters": meters, "history": {**read, "meter": meters}, "series": whole},
        **{
            "next_load": load[:, 1:61],
            "past": load[:, :48],
            "next_day": load[:, 48:72],
            "hours": {"hour": hour[:, 60:108]},
        },
    }


# What else a block finds, by a word of it: one name means another thing further down.
def beside(block):
    rng = np.random.default_rng(1)
    if "units=[256, 256]" in block:
        return {"x": np.zeros((2, 100, 3), "float32"), "y": np.zeros((2, 100, 2), "float32")}
    if "x_next" in block:
        return {"x": rng.integers(0, 65, (2, 3)), "x_next": rng.integers(0, 65, (2, 1))}
    if "many_to_one" in block:
        return {"x": np.zeros((3, 5, 12), "float32"), "lengths": np.array([5, 3, 1])}
    if "data.stream(ids, batch_size=64" in block:
        return {"ids": rng.integers(0, 65, 64 * 101)}
    if "forecaster" in block:
        return series_of_loads(rng)
    if "burn_in" in block:
        steps, state = (2, 35), rnnzoo.one_to_one(features=4, units=32, outputs=2).initial_state(2)
        stored = {name: keras.ops.convert_to_numpy(values) for name, values in state.items()}
        found = {"seen": np.zeros((*steps, 4)), "worth": np.zeros((*steps, 2)), "stored": stored}
        return found | {"new": np.zeros(steps, bool)}
    if "MirroredStrategy" in block:
        ids = rng.integers(0, 65, 4 * 26)
        return {"batches": rnnzoo.data.stream(ids, 4, 25, vocabulary=65)}
    if "signatures" in block or "new_stream" in block:
        return {"x": np.zeros((1, 1), "int32") if "signatures" in block else 3}
    return {}


# Run elsewhere: several processes (tests/test_spread.py), which set devices for good.
ELSEWHERE = ("keras.distribution.initialize()",)


@pytest.mark.parametrize("page", BLOCKS)
def test_every_block_runs_as_printed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS[page]) == TEXTS[page].count("```python")
    names = given()
    policy = keras.config.dtype_policy()
    try:
        for block in BLOCKS[page]:
            if any(word in block for word in ELSEWHERE):
                continue
            if "tf." in block:
                if on_jax() and "MirroredStrategy" in block:
                    continue  # TensorFlow alone has strategies
                import tensorflow

                names["tf"] = tensorflow
                without_collectives(monkeypatch)
            names |= beside(block)
            try:
                exec(compile(block, page, "exec"), names)  # our own text
            except Exception as error:
                pytest.fail(f"{type(error).__name__}: {error} in\n{block}")
    finally:
        keras.config.set_dtype_policy(policy)


def test_there_are_blocks_and_links_lead_somewhere():
    assert sum(map(len, BLOCKS.values())) >= 20
    for name, text in TEXTS.items():
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (PAGES[name].parent / link).exists(), f"{name} links to {link}"


def test_what_the_pages_name_is_there():
    """Names of rnnzoo, targets of make, parts of the benchmarks."""
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "recipes/README.md")]
    pages += [
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob("saved_models/*.md"),
    ]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for name in set(re.findall(r"\brnnzoo(?:\.[A-Za-z_]\w*)+", text)) - {"rnnzoo.json"}:
        pkgutil.resolve_name(name)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(re.findall(r"`make ([a-z-]+)[` ]", text)) <= set(targets)
    for name in set(re.findall(r"python -m benchmarks ([a-z]+)", text)):
        assert (ROOT / "benchmarks" / f"{name}.py").exists(), name
