"""The recipes: help, errors that name line and column, and a short run of each to its end."""

import gzip
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from reference import without_collectives

if keras.backend.backend() == "jax":
    pytest.skip(
        "what recipes use is tested on JAX; compiling them takes minutes", allow_module_level=True
    )

import rnnzoo

ROOT = Path(__file__).resolve().parents[1]
TRAINING = ("char_lm", "speaker", "chorales", "scan", "pronounce", "forecast", "intervals")
TRAINING += ("tag", "remaining_life")
RECIPES = (*TRAINING, "memory", "serve_saved_model", "serve")
CHORALES = ROOT.parent / "shared/data/jsb-chorales/jsb-chorales-quarter.json.gz"


@pytest.fixture
def recipes(tmp_path):
    """A copy of the recipes, so that what a run writes stays out of the checkout."""
    (tmp_path / "recipes").mkdir()
    for path in (ROOT / "recipes").glob("*.py"):
        (tmp_path / "recipes" / path.name).write_text(path.read_text())
    (tmp_path / "recipes" / "data").symlink_to(ROOT / "recipes" / "data")
    return tmp_path / "recipes"


@pytest.fixture
def run(recipes, monkeypatch, capfd):
    """`run(recipe, *options)`: exit status, standard output and error of a recipe.

    In this process, since importing TensorFlow takes longer than most of these runs.
    """

    def run(recipe, *options):
        path = str(recipes / f"{recipe}.py")
        monkeypatch.syspath_prepend(recipes)
        monkeypatch.setattr(sys, "argv", [path, *map(str, options)])
        status = 0
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return run


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_short_and_tell_their_options(recipes, run, recipe):
    assert len((recipes / f"{recipe}.py").read_text().splitlines()) < 150
    status, out, _ = run(recipe, "--help")
    assert status == 0
    assert "usage:" in out
    assert recipe not in TRAINING or "--data" in out


def test_a_recipe_prints_its_own_lines_only():
    recipe = ROOT / "recipes" / "serve_saved_model.py"
    export = ROOT / "saved_models" / "pronounce" / "1"
    command = [sys.executable, recipe, export, "--prompt", "recurrent", "--temperature", "0"]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""


# Stands for TensorFlow, and writes as its libraries do.
NOISY = r"""
import os
os.write(2, b"I0000 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU ...\n")
os.write(2, b"I0000 another.cc:31] something else\n")
raise ImportError
"""


def test_only_known_notes_are_kept_quiet(recipes, capfd, monkeypatch):
    (recipes / "tensorflow.py").write_text(NOISY)
    monkeypatch.syspath_prepend(recipes)
    monkeypatch.delitem(sys.modules, "tensorflow")
    from quiet import load_tensorflow

    with pytest.raises(ImportError):
        load_tensorflow()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "I0000 another.cc:31] something else\nafter\n"


def test_char_lm_trains_writes_exports_and_serves(recipes, run):
    text = recipes / "own.txt"
    text.write_text("the cat sat on the mat, the dog on the log.\n" * 60, encoding="utf-8")
    options = ("--units", 8, "--embedding", 4, "--epochs", 2, "--lanes", 4, "--window", 16)
    status, out, _ = run("char_lm", "--data", text, *options, "--characters", 20, "--name", "own")
    assert status == 0
    assert "nats per character" in out.splitlines()[-3]
    assert "written by the SavedModel" in out
    assert "rnnzoo False, tensorflow True" in out
    export = recipes.parent / "saved_models" / "own" / "1"
    assert (export / "saved_model.pb").exists()
    assert (recipes / "output" / "own.png").stat().st_size > 1000
    status, _, error = run("serve_saved_model", export, "--prompt", "THE")
    assert status == 2
    assert "--prompt must be made of" in error


def test_char_lm_trains_on_two_devices_in_mixed_precision(recipes, run, monkeypatch):
    without_collectives(monkeypatch)
    text = recipes / "own.txt"
    text.write_text("the cat sat on the mat, the dog on the log.\n" * 60, encoding="utf-8")
    sizes = ("--units", 4, "--embedding", 4, "--epochs", 1, "--lanes", 4, "--window", 16)
    where = ("--strategy", "mirrored", "--precision", "mixed_bfloat16")
    where += ("--backups", recipes / "backups")
    try:
        status, out, _ = run("char_lm", "--data", text, *sizes, *where, "--characters", 20)
    finally:
        keras.config.set_dtype_policy("float32")
    assert status == 0
    assert [path.name for path in (recipes / "backups").iterdir()] != []
    assert "nats per character" in out.splitlines()[-3]


def test_a_strategy_of_the_other_backend_is_refused(run):
    status, _, _ = run("scan", "--strategy", "processes")
    assert status == (
        "--strategy processes needs the Keras backend jax; received tensorflow. "
        "Set KERAS_BACKEND=jax."
    )


def test_char_lm_bad_data(recipes, run):
    bad = recipes / "bad.txt"
    bad.write_bytes(b"first line\nsecond \xff line\n")
    status, _, error = run("char_lm", "--data", bad)
    assert status == 2
    assert "line 2, column 8: text must be UTF-8; received byte 0xff" in error


def test_char_lm_leaves_an_export_of_others_alone(recipes, run):
    (recipes.parent / "saved_models" / "theirs" / "1").mkdir(parents=True)
    status, _, error = run("char_lm", "--name", "theirs")
    assert status == 2
    assert "--name must be new or of this recipe; received theirs" in error


def test_speaker_runs(run):
    status, out, _ = run("speaker", "--epochs", 2, "--seeds", 1, "--units", 8)
    assert status == 0
    assert "270 sequences to train, 370 to test" in out
    assert out.splitlines()[-1].startswith("test, mean")


def test_speaker_runs_on_an_own_file(recipes, run):
    random, rows = np.random.default_rng(0), ["sequence,step,label,x"]
    for i in range(16):
        for t, value in enumerate(random.normal(i % 2, 0.1, 3 + i % 3)):
            rows.append(f"s{i},{t},{'low' if i % 2 else 'high'},{value:.3f}")
    own = recipes / "own.csv"
    own.write_text("\n".join(rows))
    options = ("--epochs", 2, "--seeds", 1, "--units", 8, "--batch", 4)
    status, out, _ = run("speaker", "--data", own, *options)
    assert status == 0
    assert "12 sequences to train, 4 to test" in out


def test_speaker_bad_data(recipes, run):
    bad = recipes / "bad.csv"
    bad.write_text("sequence,step,label,x\na,0,up,1\na,1,up,none\n")
    status, _, error = run("speaker", "--data", bad)
    assert status == 2
    assert "line 3, column 4 (x): must be a finite number; received 'none'" in error


def chorales_own(folder):
    own = folder / "own.csv"
    rows = [f"s{i},{t},{t % 2},{i % 2}" for i in range(10) for t in range(6 + i)]
    own.write_text("\n".join(["sequence,step,x,y", *rows]))
    return own


def test_chorales_runs_on_an_own_file(recipes, run):
    options = ("--epochs", 2, "--units", 8)
    status, out, _ = run("chorales", "--data", chorales_own(recipes), *options)
    assert status == 0
    assert out.splitlines()[-1].startswith("test")
    assert "nats per step" in out.splitlines()[-1]


@pytest.mark.skipif(not CHORALES.exists(), reason="JSB Chorales are not part of rnnzoo")
def test_chorales_runs(run):
    options = ("--epochs", 1, "--units", 8, "--window", 100)
    status, out, _ = run("chorales", "--data", CHORALES, *options)
    assert status == 0
    assert "nats per step" in out.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.csv", "sequence,step,x\na,0,0.5\n", "line 2, column 3 (x): must be one of 0, 1"),
        ("bad.json", '{"train":\n [[60, x]]}', "line 2, column 8: must be JSON"),
        ("bad.json", json.dumps({"train": [[[60], [20]]]}), "train[0], step 1: pitches must be"),
        ("bad.json", json.dumps({"train": [3]}), "must have the form"),
    ],
)
def test_chorales_bad_data(recipes, run, name, content, message):
    bad = recipes / f"{name}.gz"
    bad.write_bytes(gzip.compress(content.encode()))
    status, _, error = run("chorales", "--data", bad)
    assert status == 2
    assert message in error


def test_chorales_without_data_says_what_to_give(run):
    status, _, error = run("chorales")
    assert status == 2
    assert "JSB Chorales is not bundled: give --data FILE" in error


def test_scan_trains_on_own_pairs(recipes, run):
    path = recipes / "own.tsv"
    path.write_text("".join(f"say {w} twice\t{w} {w}\n" for w in "abcdefgh"), encoding="utf-8")
    options = ("--units", 8, "--epochs", 2, "--batch", 4, "--test", path)
    status, out, _ = run("scan", "--data", path, *options)
    assert status == 0
    assert "8 pairs to train, 8 to test" in out
    assert out.splitlines()[-1].endswith("% of the answers right in every action")
    assert (recipes / "output" / "scan.png").stat().st_size > 1000


def test_pronounce_trains_on_own_words(recipes, run):
    path = recipes / "own.tsv"
    words = [f"{a}{b}{c}" for a in "bdk" for b in "aei" for c in "tns"]
    path.write_text("".join(f"{w}\t{' '.join(w.upper())}\n" for w in words), encoding="utf-8")
    options = ("--units", 8, "--epochs", 2, "--batch", 8, "--beam", 2, "--test", path)
    status, out, _ = run("pronounce", "--data", path, *options)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[-2:]] == ["greedy", "beam"]
    assert "words/s" in out.splitlines()[-1]
    assert (recipes / "output" / "pronounce.png").stat().st_size > 1000


def test_forecast_trains_on_an_own_column(recipes, run):
    path = recipes / "own.csv"
    lines = [f"{hour},{np.sin(hour / 4):.5f}" for hour in range(200)]
    path.write_text("\n".join(["hour,level", *lines]) + "\n", encoding="utf-8")
    options = (
        "--column",
        "level",
        "--rows",
        120,
        40,
        40,
        "--history",
        12,
        "--ahead",
        4,
        "--segment",
        2,
    )
    more = ("--units", 4, "--epochs", 2, "--seeds", 1)
    status, out, _ = run("forecast", "--data", path, *options, *more)
    assert status == 0
    assert [line.rsplit(maxsplit=1)[0] for line in out.splitlines()[-3:]] == [
        "ridge regression",
        "repeat last value",
        "repeat yesterday",
    ]
    assert (recipes / "output" / "forecast.png").stat().st_size > 1000
    status, _, error = run("forecast", "--data", path, "--column", "depth")
    assert status == 2
    assert "--column must be one of ['hour', 'level']; received 'depth'" in error


def test_memory_plays_and_learns(recipes, run):
    sizes = ("--rounds", 2, "--mazes", 4, "--units", 4, "--corridor", 2)
    status, out, _ = run("memory", *sizes, "--steps", 12, "--burn-in", 3)
    assert status == 0
    told = [line.split() for line in out.splitlines()]
    assert [line[0] for line in told[:4:2]] == ["with", "without"]
    assert all("% of" in line and "new mazes solved" in line for line in out.splitlines()[:4:2])
    assert all(float(line[-3]) < 1e-5 for line in told[1:4:2])  # reset in a batch, and alone
    assert (recipes / "output" / "memory.png").stat().st_size > 1000
    status, _, error = run("memory", *sizes, "--steps", 12, "--burn-in", 11)
    assert status == 2
    assert "burn-in leave 2 steps; received" in error


def test_intervals_trains_on_own_series(recipes, run):
    path, rng = recipes / "own.csv", np.random.default_rng(0)
    lines = [
        f"s{i},{t},{10.0**i * (3 + np.sin(t)) + rng.normal():.3f}"
        for i in range(3)
        for t in range(50)
    ]
    path.write_text("\n".join(["sequence,step,value", *lines]) + "\n", encoding="utf-8")
    options = ("--ahead", 4, "--season", 3, "--cycle", 6, "--units", 4, "--window", 10)
    more = ("--epochs", 1, "--samples", 5)
    status, out, _ = run("intervals", "--data", path, *options, *more)
    assert status == 0
    names = [line.rsplit(maxsplit=2)[0] for line in out.splitlines()[-7:-3]]
    assert names == ["network", "repeat the season", "ridge on values", "ridge on changes"]
    status, _, error = run("intervals", "--data", path, "--ahead", 30)
    assert status == 2
    assert "received a series of 50 steps, --ahead 30" in error
    status, _, error = run("intervals")  # no data beside this copy
    assert status == 2
    assert "M4 is not bundled" in error


def tagged(path, seed):
    """Words whose tags are told by their last letters, most of them never seen again."""
    rng, lines = np.random.default_rng(seed), []
    for _ in range(40):
        for i in range(1, 6):
            ending, tag = [("ing", "VERB"), ("ly", "ADV"), ("s", "NOUN")][rng.integers(3)]
            word = "".join(rng.choice([*"abcde"], 4)) + ending
            columns = [str(i), word, "_", tag, *"______"]
            lines.append("\t".join(columns if seed else [word, tag]))
        lines.append("")
    path.write_text("\n".join(["# text = own", *lines] if seed else lines))
    return path


def test_tag_tells_unknown_words_by_their_characters(recipes, run):
    parts = [tagged(recipes / f"{seed}.conllu", seed) for seed in range(3)]
    sizes = ("--units", 8, "--embedding", 4, "--characters", 8, "--rate", 0.05, "--batch", 8)
    more = ("--epochs", 4, "--dropout", 0, "--sentence", "abading ably", "--crf")
    status, out, _ = run("tag", "--data", *parts, *sizes, *more)
    assert status == 0
    test, baseline, sentence = out.splitlines()[-3:]
    assert test.startswith("test") and float(test.split()[1]) > 95
    assert baseline.startswith("most frequent tag") and float(baseline.split()[3]) < 60
    assert sentence == "abading/VERB ably/ADV"
    assert (recipes / "output" / "tag.png").stat().st_size > 1000


def test_tag_bad_data(recipes, run):
    bad = recipes / "bad.tsv"
    bad.write_text("the\tDET\ncat NOUN\n")
    status, _, error = run("tag", "--data", bad, bad, bad)
    assert status == 2
    assert "line 2: must be a word, a tab and its tag, or the 10 columns of CoNLL-U" in error
    status, _, error = run("tag")
    assert status == 2 and "UD English EWT is not bundled: give --data" in error


def engines(path, count, stopped=0):
    """Engines whose sensors rise towards their end, as C-MAPSS has them."""
    rng, lines, left = np.random.default_rng(count), [], []
    for engine in range(1, count + 1):
        life = rng.integers(20, 30)
        left.append(int(rng.integers(2, 12)) if stopped else 0)
        for cycle in range(1, life - left[-1] + 1):
            sensors = [f"{np.exp((cycle - life) / 5):.4f}", *["7.5"] * 20]
            lines.append(" ".join([str(engine), str(cycle), "0", "0", "100", *sensors]))
    path.write_text("\n".join(lines) + "\n")
    return path, left


def test_remaining_life_streams_what_it_reads_whole(recipes, run):
    train, _ = engines(recipes / "train.txt", 8)
    test, left = engines(recipes / "test.txt", 4, stopped=1)
    truth = recipes / "left.txt"
    truth.write_text("\n".join(map(str, left)))
    sizes = ("--units", 8, "--cap", 20, "--window", 3, "--validation", 2, "--seeds", 1)
    more = ("--epochs", 2, "--batch", 8)
    status, out, _ = run("remaining_life", "--data", train, test, truth, *sizes, *more)
    assert status == 0
    lines = out.splitlines()
    assert [line.rsplit(maxsplit=3)[0].strip() for line in lines[-3:]] == [
        "mean of the models",
        "seed 0",
        "ridge regression",
    ]
    streamed, whole = (next(x for x in lines if x.startswith(n)) for n in ("streamed", "read at"))
    assert streamed.split()[-4:] == whole.split()[-4:]
    assert (recipes / "output" / "remaining_life.png").stat().st_size > 1000
    status, _, error = run("remaining_life", "--data", truth, test, truth)
    assert status == 2 and "left.txt, line 1: must be 26 numbers" in error
    status, _, error = run("remaining_life")
    assert status == 2 and "C-MAPSS is not bundled: give --data" in error


@pytest.mark.parametrize("recipe", ["scan", "pronounce"])
def test_bad_pairs_name_the_line(recipes, run, recipe):
    path = recipes / "bad.tsv"
    path.write_text("a\tb\nno tab here\n", encoding="utf-8")
    status, _, error = run(recipe, "--data", path)
    assert status == 2
    assert "line 2: must be a source, a tab and a target; received 'no tab here'" in error


@pytest.fixture
def zoo(monkeypatch, capfd):
    """`zoo(*arguments)`: exit status, standard output and error of `python recipes/zoo`."""

    def zoo(*arguments):
        monkeypatch.setattr(sys, "argv", ["recipes/zoo", *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / "recipes" / "zoo"), run_name="__main__")
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    return zoo


def test_an_animal_is_trained_on_rows_of_others(zoo, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "recipes" / "zoo")
    import tuning
    import vowels

    read, looked_at = [], []

    def own(path, seed, own=vowels.own):
        read.append(own(path, seed))
        return read[0]

    def still(data, rows, still=vowels.still):
        looked_at.append(rows)
        return still(data, rows)

    def tuned(score, minutes, seed):
        assert score(rate=4e-3, cell="lstm", units=[4], dropout=0.0) > 0
        assert len(looked_at) == 1 and looked_at[0] is read[0].valid
        return {"rate": 4e-3, "cell": "gru", "units": [64], "dropout": 0.2}

    monkeypatch.setattr(vowels, "MEMBERS", 2)
    monkeypatch.setattr(vowels, "own", own)
    monkeypatch.setattr(vowels, "still", still)
    monkeypatch.setattr(tuning, "tuned", tuned)
    # A feature that never changes is of no use, and does no harm.
    random, rows = np.random.default_rng(0), ["sequence,step,label,same,x"]
    for i in range(40):
        values = 100 + i % 2 + random.normal(0, 0.1, 6)
        rows += [f"{i},{t},{'ab'[i % 2]},7,{value}" for t, value in enumerate(values)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(rows) + "\n")
    to = tmp_path / "mine"
    options = ("--data", path, "--tune", 1, "--epochs", 3, "--to", to)
    status, out, _ = zoo("speaker.vowels", *options)
    assert status == 0 and "always the most frequent" in out
    card = json.loads((to / "card.json").read_text())
    assert card["labels"] == ["a", "b"] and card["name"] == "mine" and card["published"] is None
    command = "python recipes/zoo speaker.vowels --data own.csv --tune 1.0 --epochs 3"
    assert card["command"] == command and card["cell"] == "gru"
    assert card["licence"] == {} and card["training"]["epochs"] == 3
    model = rnnzoo.from_preset(to)
    told = model.predict(np.array([[[7, 100]] * 6, [[7, 101]] * 6], "float32"), verbose=0)
    assert told.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "x.csv"], "--to must name a folder"),
        (["--tune", "1"], "--to must name a folder"),
        (["--tune", "0", "--validate"], "--tune must be more than 0 minutes; received 0"),
        (["--epochs", "0"], "--epochs must be at least 1; received 0"),
        (["--data", "x.csv", "--validate"], "--validate is of the data of the zoo"),
        (["--data", "none.csv", "--to", "there"], "none.csv"),
        (["--tune", "nan", "--validate"], "--tune must be more than 0 minutes; received nan"),
        (["--seed", "-1"], "--seed must be from 0 up to 2**32; received -1"),
    ],
)
def test_what_an_animal_cannot_be_trained_with(zoo, arguments, words):
    status, _, error = zoo("speaker.vowels", *arguments)
    assert status == 2 and words in error


def test_what_cannot_be_trained_is_known_before_the_training(zoo, tmp_path, monkeypatch):
    # The animal, and not the recipe of that name.
    monkeypatch.delitem(sys.modules, "remaining_life", raising=False)
    rows = [f"{i},{t},{t}" for i in range(10) for t in range(20)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["sequence,step,x", *rows]))
    status, _, error = zoo("gru.remaining_life", "--data", path, "--to", tmp_path / "to")
    assert status == 2 and "must have sequences of which 30 steps are left" in error
    status, _, error = zoo("forecast.ett_oil", "--tune", 1, "--to", tmp_path / "to")
    assert status == 2 and "--tune is of models whose cell can be another" in error
    (tmp_path / "labels.tsv").write_text("".join(f"{'ab'[i % 2]}\tw{i}\n" for i in range(10)))
    status, _, error = zoo("lstm.surnames", "--data", tmp_path / "labels.tsv", "--to", path)
    assert status == 2 and "own.csv" in error and path.is_file()
