"""Recurrent cells: one step each, and the loop that runs any of them over time."""

from rnnzoo.cells.cell import Cell, LinearCell
from rnnzoo.cells.lru import LRUCell
from rnnzoo.cells.lstnet import LSTNetCell
from rnnzoo.cells.min_gru import MinGRUCell
from rnnzoo.cells.min_lstm import MinLSTMCell
from rnnzoo.cells.rg_lru import RGLRUCell
from rnnzoo.cells.slstm import SLSTMCell

# The cells by name that `rnnzoo.layers.RNN` runs; to be here is to be tested by the laws.
CELLS: dict[str, type[Cell]] = {
    "lru": LRUCell,
    "min_gru": MinGRUCell,
    "min_lstm": MinLSTMCell,
    "rg_lru": RGLRUCell,
    "slstm": SLSTMCell,
}

__all__ = [
    "CELLS",
    "Cell",
    "LRUCell",
    "LSTNetCell",
    "LinearCell",
    "MinGRUCell",
    "MinLSTMCell",
    "RGLRUCell",
    "SLSTMCell",
]
