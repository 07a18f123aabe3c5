"""The recipes: help, errors that name line and column, and a short run of each to its end."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ("char_lm", "speaker", "chorales", "serve_saved_model")
CHORALES = ROOT.parent / "shared/data/jsb-chorales/jsb-chorales-quarter.json.gz"


@pytest.fixture
def recipes(tmp_path):
    """A copy of the recipes, so that what a run writes stays out of the checkout."""
    (tmp_path / "recipes").mkdir()
    for path in (ROOT / "recipes").glob("*.py"):
        (tmp_path / "recipes" / path.name).write_text(path.read_text())
    (tmp_path / "recipes" / "data").symlink_to(ROOT / "recipes" / "data")
    return tmp_path / "recipes"


def run(folder, recipe, *options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    return subprocess.run(
        [sys.executable, folder / f"{recipe}.py", *map(str, options)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder.parent,
        timeout=300,
    )


def fails(folder, recipe, *options):
    """What a run says that ends on a bad option."""
    result = run(folder, recipe, *options)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_short_and_tell_their_options(recipes, recipe):
    assert len((recipes / f"{recipe}.py").read_text().splitlines()) < 150
    result = run(recipes, recipe, "--help")
    assert result.returncode == 0, result.stderr
    assert "usage:" in result.stdout
    assert recipe == "serve_saved_model" or "--data" in result.stdout


def test_char_lm_trains_writes_exports_and_serves(recipes):
    text = recipes / "own.txt"
    text.write_text("the cat sat on the mat, the dog on the log.\n" * 60, encoding="utf-8")
    options = ("--units", 8, "--embedding", 4, "--epochs", 2, "--lanes", 4, "--window", 16)
    result = run(recipes, "char_lm", "--data", text, *options, "--characters", 20, "--name", "own")
    assert result.returncode == 0, result.stderr
    assert "nats per character" in result.stdout.splitlines()[-3]
    assert "written by the SavedModel" in result.stdout
    assert "rnnzoo False, tensorflow True" in result.stdout
    export = recipes.parent / "saved_models" / "own" / "1"
    assert (export / "saved_model.pb").exists()
    assert (recipes / "output" / "own.png").stat().st_size > 1000
    again = run(recipes, "serve_saved_model", export, "--characters", 5, "--prompt", "the ")
    assert again.returncode == 0, again.stderr
    assert "must be made of" in fails(recipes, "serve_saved_model", export, "--prompt", "THE")


def test_char_lm_bad_data(recipes):
    bad = recipes / "bad.txt"
    bad.write_bytes(b"first line\nsecond \xff line\n")
    said = fails(recipes, "char_lm", "--data", bad)
    assert "line 2, column 8: text must be UTF-8; received byte 0xff" in said


def test_char_lm_leaves_an_export_of_others_alone(recipes):
    (recipes.parent / "saved_models" / "theirs" / "1").mkdir(parents=True)
    said = fails(recipes, "char_lm", "--name", "theirs")
    assert "--name must be new or of this recipe; received theirs" in said


def test_speaker_runs(recipes):
    result = run(recipes, "speaker", "--epochs", 2, "--seeds", 1, "--units", 8)
    assert result.returncode == 0, result.stderr
    assert "270 sequences to train, 370 to test" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("test, mean")


def test_speaker_runs_on_an_own_file(recipes):
    random, rows = np.random.default_rng(0), ["sequence,step,label,x"]
    for i in range(16):
        for t, value in enumerate(random.normal(i % 2, 0.1, 3 + i % 3)):
            rows.append(f"s{i},{t},{'low' if i % 2 else 'high'},{value:.3f}")
    own = recipes / "own.csv"
    own.write_text("\n".join(rows))
    options = ("--epochs", 2, "--seeds", 1, "--units", 8, "--batch", 4)
    result = run(recipes, "speaker", "--data", own, *options)
    assert result.returncode == 0, result.stderr
    assert "12 sequences to train, 4 to test" in result.stdout


def test_speaker_bad_data(recipes):
    bad = recipes / "bad.csv"
    bad.write_text("sequence,step,label,x\na,0,up,1\na,1,up,none\n")
    said = fails(recipes, "speaker", "--data", bad)
    assert "line 3, column 4 (x): must be a finite number; received 'none'" in said


def chorales_own(folder):
    own = folder / "own.csv"
    rows = [f"s{i},{t},{t % 2},{i % 2}" for i in range(10) for t in range(6 + i)]
    own.write_text("\n".join(["sequence,step,x,y", *rows]))
    return own


def test_chorales_runs_on_an_own_file(recipes):
    options = ("--epochs", 2, "--units", 8)
    result = run(recipes, "chorales", "--data", chorales_own(recipes), *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith("test")
    assert "nats per step" in result.stdout.splitlines()[-1]


@pytest.mark.skipif(not CHORALES.exists(), reason="JSB Chorales are not part of rnnzoo")
def test_chorales_runs(recipes):
    options = ("--epochs", 1, "--units", 8, "--window", 100)
    result = run(recipes, "chorales", "--data", CHORALES, *options)
    assert result.returncode == 0, result.stderr
    assert "nats per step" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.csv", "sequence,step,x\na,0,0.5\n", "line 2, column 3 (x): must be one of 0, 1"),
        ("bad.json", '{"train":\n [[60, ]]}', "line 2, column 8: must be JSON"),
        ("bad.json", json.dumps({"train": [[[60], [20]]]}), "train[0], step 1: pitches must be"),
        ("bad.json", json.dumps({"train": [3]}), "must have the form"),
    ],
)
def test_chorales_bad_data(recipes, name, content, message):
    bad = recipes / f"{name}.gz"
    bad.write_bytes(gzip.compress(content.encode()))
    assert message in fails(recipes, "chorales", "--data", bad)


def test_chorales_without_data_says_what_to_give(recipes):
    said = fails(recipes, "chorales")
    assert "JSB Chorales is not bundled: give --data FILE" in said
