"""Recurrent layers with explicit state and reset."""

from rnnzoo.layers.gru import GRU
from rnnzoo.layers.lstm import LSTM
from rnnzoo.layers.rnn import RNN
from rnnzoo.layers.simple_rnn import SimpleRNN

__all__ = ["GRU", "LSTM", "RNN", "SimpleRNN"]
