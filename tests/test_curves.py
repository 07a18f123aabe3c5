"""`rnnzoo.curves`: learning curves as a picture."""

import sys

import numpy as np
import pytest

from rnnzoo.curves import attention_map, learning_curve


def test_the_picture_has_every_curve(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    one, two = tmp_path / "new" / "one.png", tmp_path / "two.png"
    assert learning_curve({"a": [3.0, 2.0]}, one, ylabel="nats") == str(one)
    assert learning_curve({"a": np.array([3.0, 2.0]), "b": [1.0]}, two, ylabel="nats") == str(two)
    pictures = [image.imread(path) for path in (one, two)]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).any()


def test_without_matplotlib_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    path = tmp_path / "curve.png"
    assert "pip install 'rnnzoo[plot]'" in learning_curve({"a": [1.0]}, path, ylabel="nats")
    assert not path.exists()


@pytest.mark.parametrize("curves", [{}, {"a": []}])
def test_nothing_to_draw_is_an_error(tmp_path, curves):
    with pytest.raises(ValueError, match="curves must be one or more lists .*; received"):
        learning_curve(curves, tmp_path / "curve.png", ylabel="nats")


def test_attention_of_an_empty_target_is_drawn(tmp_path):
    path = tmp_path / "map.png"
    alignment = [[0.5, 0.5], [0.0, 0.0]]
    drawn = attention_map([np.array(alignment)] * 2, ["ab", "ab"], [["A"], []], path)
    assert drawn == str(path)
    assert path.stat().st_size > 1000
