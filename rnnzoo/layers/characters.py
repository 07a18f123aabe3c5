"""Words read character by character."""

from typing import Any

import keras
from keras import ops

from rnnzoo.layers.bidirectional import Bidirectional
from rnnzoo.layers.recurrent import Tensor

# The id of no character, after the end of a word.
NONE = -1


@keras.saving.register_keras_serializable(package="rnnzoo")
class CharacterRNN(keras.layers.Layer):
    """A call is `(batch, [time,] characters) -> (batch, [time,] 2 * units)`: the state after a
    word's last character, read forward, beside that after its first, read backward (Ling et al.,
    2015).

    Every word is read by itself, from the initial state, so that a model may stop between two
    words and go on. A word of no characters gives zeros.

    Args:
        vocabulary: number of characters, whose ids are 0 to `vocabulary - 1`; -1 is none.
        embedding: size of a character's embedding.
        reader: what reads the characters.
    """

    def __init__(self, vocabulary: int, embedding: int, reader: Bidirectional, **kwargs: Any):
        super().__init__(**kwargs)
        self.vocabulary, self.embedding, self.reader = vocabulary, embedding, reader
        self.table = keras.layers.Embedding(
            vocabulary, embedding, name="table", dtype=self.dtype_policy
        )

    def build(self, input_shape: tuple) -> None:
        self.table.build((None, None))
        self.reader.build((None, None, self.embedding))
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        *leading, characters = ops.shape(inputs)
        ids = ops.reshape(inputs, (-1, characters))
        embedded = self.table(ops.maximum(ids, 0))
        _, state = self.reader(embedded, ids > NONE, training=training)
        end = ops.cast(state[self.reader.forward.output_state], self.compute_dtype)
        return ops.reshape(end, (*leading, end.shape[-1]))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.reader.forward.units + self.reader.backward.units)

    def get_config(self) -> dict:
        reader = keras.saving.serialize_keras_object(self.reader)
        own = {"vocabulary": self.vocabulary, "embedding": self.embedding, "reader": reader}
        return {**super().get_config(), **own}

    @classmethod
    def from_config(cls, config: dict) -> "CharacterRNN":
        reader = keras.saving.deserialize_keras_object(config["reader"])
        return cls(**{**config, "reader": reader})
