"""Log-mel steps against their formula written out, and WAV files that do not fit."""

import wave

import keras
import numpy as np
import pytest

import rnnzoo
from rnnzoo.__main__ import main
from rnnzoo.data import LogMel
from rnnzoo.presets.card import Card
from rnnzoo.presets.folder import outputs_of, read_card

SOUND = LogMel(rate=400, frame=20, hop=8, spectrum=32, bands=3, shortest=0.1, longest=0.5)


def by_the_formula(samples, rate, frame, hop, spectrum, bands, lowest, floor):
    def mel(f):
        return 2595 * np.log10(1 + f / 700)

    step = (mel(rate / 2) - mel(lowest)) / (bands + 1)
    corners = [700 * (10 ** ((mel(lowest) + i * step) / 2595) - 1) for i in range(bands + 2)]
    rows = []
    for start in range(0, len(samples) - frame + 1, hop):
        energies = []
        for k in range(spectrum // 2 + 1):
            turns = np.exp(-2j * np.pi * k * np.arange(frame) / spectrum)
            window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(frame) / (frame - 1))
            energies.append(abs(np.sum(samples[start : start + frame] * window * turns)) ** 2)
        row = []
        for a, b, c in zip(corners, corners[1:], corners[2:]):
            total = floor
            for k, energy in enumerate(energies):
                f = k * rate / spectrum
                total += energy * max(0, min((f - a) / (b - a), (c - f) / (c - b)))
            row.append(np.log(total))
        rows.append(row)
    return np.array(rows)


def test_steps_are_those_of_the_formula():
    samples = np.random.default_rng(0).normal(size=61)
    expected = by_the_formula(samples, 400, 20, 8, 32, 3, 20.0, 1e-6)
    assert SOUND(samples).shape == (6, 3)
    np.testing.assert_allclose(SOUND(samples), expected, rtol=1e-5)


def test_a_short_sound_is_filled_up_and_silence_is_the_floor():
    assert SOUND(np.zeros(5)).shape == (1, 3)
    np.testing.assert_allclose(SOUND(np.zeros(40)), np.log(1e-6), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 0}, "rate must be an integer of at least 1"),
        ({"spectrum": 100}, "spectrum must be an integer of at least 200"),
        ({"lowest": 4000}, "lowest must be from 0 up to half the rate, 4000 Hz"),
        ({"floor": 0}, "floor must be above 0"),
        ({"bands": 120}, "bands must be wide enough .* received bands=120, spectrum=256"),
        ({"shortest": 2, "longest": 1}, "longest must be at least shortest, 2 seconds"),
    ],
)
def test_sizes_that_do_not_fit(options, words):
    with pytest.raises(ValueError, match=words):
        LogMel(**options)


@pytest.mark.parametrize(
    "samples", [[], np.zeros((9, 2)), ["a"], [0, np.nan], np.array([0, 300], "int16")]
)
def test_what_is_no_sound(samples):
    with pytest.raises(ValueError, match="samples must be"):
        SOUND(samples)


def written(path, samples, rate=400, channels=1, width=2):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes()[: len(samples) * width])
    return path


def test_a_wav_is_read_as_its_samples(tmp_path):
    samples = np.random.default_rng(1).uniform(-1, 1, 100)
    whole = (samples * 32767).astype("<i2") / 32768
    found = SOUND.read(written(tmp_path / "a.wav", samples))
    np.testing.assert_array_equal(found, SOUND(whole))
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(content[:-1])  # cut off within a sample
    with pytest.raises(ValueError, match="of its 100 samples the last are missing"):
        SOUND.read(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": 800}, "received 1 channel, 16 bits, 800 samples a second"),
        ({"channels": 2}, "received 2 channels, 16 bits"),
        ({"width": 1}, "received 1 channel, 8 bits"),
        ({"samples": np.zeros(300)}, "0.1 to 0.5 seconds; received .* 0.750 seconds"),
        ({"samples": np.zeros(0)}, "received .* 0.000 seconds"),
    ],
)
def test_a_wav_that_does_not_fit_is_refused_by_name(tmp_path, options, words):
    path = written(tmp_path / "it.wav", **{"samples": np.zeros(100), **options})
    with pytest.raises(ValueError, match=rf"it\.wav must be a WAV file of 1 channel.*{words}"):
        SOUND.read(path)


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"text", b"RIFF\x04\0\0\0WAVE", "half", "odd", "sizes"]
)
def test_what_is_no_wav_is_refused_by_name(tmp_path, content):
    whole = written(tmp_path / "it.wav", np.zeros(100)).read_bytes()
    cut = {"half": whole[:-100], "odd": whole[:-1], "sizes": whole[:16] + b"\xff" + whole[17:]}
    (tmp_path / "it.wav").write_bytes(cut.get(content, content))
    with pytest.raises(
        ValueError, match=r"it\.wav must be a WAV file of .*received one that is not"
    ):
        SOUND.read(tmp_path / "it.wav")


def test_a_preset_that_reads_sound_runs_on_a_wav(tmp_path, capsys):
    model = rnnzoo.many_to_one(features=3, units=4, outputs=2)
    folder = model.save_to_preset(tmp_path / "ears", sound=SOUND, labels=["low", "high"])
    card = read_card(folder)
    assert card.sound == SOUND and Card.from_json(card.to_json(), "card.json") == card
    path = written(tmp_path / "a.wav", np.random.default_rng(2).uniform(-1, 1, 80))
    assert main(["run", str(folder), str(path)]) == 0
    logits = outputs_of(model, {"inputs": SOUND.read(path)[None]})[0]
    chances = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    said = ["low", "high"][chances.argmax()]
    assert capsys.readouterr().out == f"{path}\t{said}\t{chances.max():.3f}\n"
    assert main(["run", str(folder), str(written(tmp_path / "b.wav", np.zeros(80), 500))]) == 2
    assert "received 1 channel, 16 bits, 500 samples" in capsys.readouterr().err


def test_sound_is_of_models_whose_steps_are_its_bands(tmp_path):
    deaf = rnnzoo.many_to_one(features=2, units=3, outputs=2)
    with pytest.raises(ValueError, match=r"received bands=3 for steps of shape \(2,\)"):
        deaf.save_to_preset(tmp_path / "no", sound=SOUND)
    with pytest.raises(ValueError, match="sound must be None or a rnnzoo.data.LogMel"):
        deaf.save_to_preset(tmp_path / "no", sound="yes")
    folder = deaf.save_to_preset(tmp_path / "deaf")
    path = written(tmp_path / "a.wav", np.zeros(80))
    assert main(["run", str(folder), str(path)]) == 2
