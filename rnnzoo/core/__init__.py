"""Functional cores: pure Keras models, state in and state out, and what they declare."""

from rnnzoo.core.joined import Characters, Tokens
from rnnzoo.core.scaling import Scaling
from rnnzoo.core.spec import CoreSpec, Input, Output, State

__all__ = ["Characters", "CoreSpec", "Input", "Output", "Scaling", "State", "Tokens"]
