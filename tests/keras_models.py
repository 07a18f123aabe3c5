"""Keras models as Keras's own examples write them, each with inputs for it."""

import keras
import numpy as np
from keras import layers


def reals(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def tokens(count, *shape):
    return np.random.default_rng(1).integers(0, count, shape).astype("int32")


@keras.saving.register_keras_serializable(package="rnnzoo_tests")
class MinimalRNNCell(keras.Layer):
    """The cell of Keras's guide to RNN layers."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent")

    def call(self, inputs, states):
        h = keras.ops.matmul(inputs, self.kernel)
        output = h + keras.ops.matmul(states[0], self.recurrent_kernel)
        return output, [output]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def language_model():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(11, 6),
            layers.LSTM(8, return_sequences=True),
            layers.Dropout(0.2),
            layers.LSTM(7, return_sequences=True),
            layers.Dense(11, activation="softmax"),
        ]
    )
    return model, tokens(11, 4, 7)


def bilstm():
    x = keras.Input((None,), dtype="int32")
    h = layers.Embedding(20, 8)(x)
    h = layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="lower")(h)
    h = layers.Bidirectional(layers.LSTM(4), name="upper")(h)
    return keras.Model(x, layers.Dense(1, activation="sigmoid")(h)), tokens(20, 4, 7)


def both_ways():
    """Of a fixed number of steps, which nothing but a layer of two directions reads."""
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            layers.Bidirectional(layers.GRU(3), name="both"),
            layers.Dense(2),
        ]
    )
    return model, reals(4, 7, 3)


def video():
    """Features of frames, normalised, whose padding is told by an input of its own."""
    x, real = keras.Input((7, 3), name="x"), keras.Input((7,), dtype="bool", name="real")
    normal = layers.Normalization()
    normal.adapt(2 * reals(20, 7, 3) + 1)
    h = layers.GRU(4, return_sequences=True)(normal(x), mask=real)
    mask = np.arange(7) < np.array([[7], [5], [7], [6]])
    return keras.Model([x, real], layers.Dense(2)(layers.GRU(3)(h))), {
        "x": reals(4, 7, 3),
        "real": mask,
    }


def cnn_lstm():
    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.Conv1D(5, 3, padding="same", activation="relu", name="convolution"),
            layers.MaxPooling1D(2, name="pooling"),
            layers.LSTM(6),
            layers.Dense(2),
        ]
    )
    return model, reals(4, 8, 3)


def frames():
    model = keras.Sequential(
        [
            keras.Input((5, 6, 6, 1)),
            layers.TimeDistributed(layers.Conv2D(2, 3, activation="relu")),
            layers.TimeDistributed(layers.Flatten()),
            layers.LSTM(4),
            layers.Dense(2),
        ]
    )
    return model, reals(3, 5, 6, 6, 1)


def masked_grus():
    x = reals(4, 7, 3)
    x[1, 5:], x[2, :3] = 0, 0
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            layers.Masking(0.0),
            layers.GRU(5, return_sequences=True),
            layers.GRU(4, reset_after=False),
            layers.Dense(1),
        ]
    )
    return model, x


def masked_tagger():
    x = tokens(9, 4, 8) % 8 + 1
    x[:, 5:] = 0
    given = keras.Input((8,))
    h = layers.Embedding(9, 4, mask_zero=True)(given)
    h = layers.LSTM(5, return_sequences=True)(h)
    tags = layers.TimeDistributed(layers.Dense(3, activation="softmax"))(h)
    return keras.Model(given, tags), x


def seq2seq():
    source, target = keras.Input((None, 3), name="source"), keras.Input((None, 2), name="target")
    _, h, c = layers.LSTM(6, return_state=True, name="encoder")(source)
    decoder = layers.LSTM(6, return_sequences=True, return_state=True, name="decoder")
    y, _, _ = decoder(target, initial_state=[h, c])
    model = keras.Model([source, target], layers.Dense(2, activation="softmax")(y))
    return model, {"source": reals(4, 7, 3), "target": reals(4, 5, 2)}


def encoder():
    x = keras.Input((None, 3))
    _, h, c = layers.LSTM(6, return_state=True)(x)
    return keras.Model(x, [h, c]), reals(4, 7, 3)


def tickets():
    title, body = keras.Input((None,), name="title"), keras.Input((None,), name="body")
    tags = keras.Input((4,), name="tags")
    x = layers.concatenate(
        [
            layers.LSTM(5, name="of_title")(layers.Embedding(9, 4)(title)),
            layers.LSTM(3, name="of_body")(layers.Embedding(9, 4)(body)),
            tags,
        ]
    )
    outputs = {
        "priority": layers.Dense(1, name="priority")(x),
        "department": layers.Dense(3, name="department")(x),
    }
    x = {"title": tokens(9, 4, 6), "body": tokens(9, 4, 7), "tags": reals(4, 4)}
    return keras.Model([title, body, tags], outputs), x


def load():
    """Two inputs per step, one of which joins late, and one per sequence."""
    demand, weather = keras.Input((7, 3), name="demand"), keras.Input((7, 2), name="weather")
    store = keras.Input((), dtype="int32", name="store")
    h = layers.LSTM(5, return_sequences=True)(demand)
    h = layers.GRU(4, return_sequences=True)(layers.Concatenate()([h, weather]))
    h = h + layers.Reshape((1, 4))(layers.Embedding(5, 4)(store))
    model = keras.Model({"demand": demand, "store": store, "weather": weather}, layers.Dense(1)(h))
    return model, {"demand": reals(4, 7, 3), "store": tokens(5, 4), "weather": reals(4, 7, 2)}


def shared():
    a, b = keras.Input((None, 3), name="a"), keras.Input((None, 3), name="b")
    lstm = layers.LSTM(4, return_sequences=True, name="both")
    model = keras.Model([a, b], layers.Dense(1)(layers.Add()([lstm(a), lstm(b)])))
    return model, {"a": reals(4, 7, 3), "b": 2 * reals(4, 7, 3)}


def residual():
    x = keras.Input((None, 4))
    h = layers.Add()([x, layers.LSTM(4, return_sequences=True)(x)])
    h = layers.LayerNormalization()(h)
    h = h + layers.GRU(4, return_sequences=True)(h)
    return keras.Model(x, layers.Dense(2)(h)), reals(4, 7, 4)


def cells():
    stacked = [layers.LSTMCell(4), layers.GRUCell(3)]
    model = keras.Sequential(
        [
            keras.Input((None, 3)),
            layers.RNN(MinimalRNNCell(5), return_sequences=True),
            layers.RNN(stacked),
        ]
    )
    return model, reals(4, 7, 3)


def nested():
    """A block that is used twice, with names that the model around it has too."""
    block = keras.Sequential(
        [
            keras.Input((None, 5)),
            layers.LSTM(4, return_sequences=True, name="memory"),
            layers.Dense(5, name="out"),
        ],
        name="block",
    )
    x = keras.Input((None, 5))
    h = layers.LSTM(3, return_sequences=True, name="memory")(block(block(x)))
    return keras.Model(x, layers.Dense(2, name="out")(h)), reals(4, 7, 5)


def flattened():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.LSTM(4, return_sequences=True),
            layers.Flatten(name="flat"),
            layers.Dense(2),
        ]
    )
    return model, reals(4, 6, 3)


def autoencoder():
    model = keras.Sequential(
        [
            keras.Input((6, 3)),
            layers.LSTM(4),
            layers.RepeatVector(6),
            layers.LSTM(4, return_sequences=True, name="decoder"),
            layers.TimeDistributed(layers.Dense(3)),
        ]
    )
    return model, reals(4, 6, 3)


def attention():
    x = keras.Input((None, 4))
    h = layers.GRU(4, return_sequences=True)(x)
    h = layers.MultiHeadAttention(2, 2, name="attention")(h, h)
    h = layers.GlobalAveragePooling1D(name="mean")(h)
    return keras.Model(x, layers.Dense(2)(h)), reals(4, 7, 4)


def backwards():
    x = keras.Input((None, 4))
    ahead = layers.LSTM(3, return_sequences=True)(x)
    back = layers.LSTM(3, return_sequences=True, go_backwards=True, name="back")(x)
    return keras.Model(x, layers.Concatenate()([ahead, back])), reals(4, 7, 4)


def stateful():
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(4, 5, 3)),
            layers.BatchNormalization(),
            layers.LSTM(4, stateful=True, return_sequences=True, activation="relu", unroll=True),
            layers.SimpleRNN(3, return_sequences=True, activity_regularizer="l2"),
            layers.Lambda(lambda x: x * 2),
        ]
    )
    return model, reals(4, 5, 3)


# Each model, with the layers that read whole sequences.
MODELS = {
    language_model: [],
    frames: [],
    video: [],
    masked_grus: [],
    masked_tagger: [],
    encoder: [],
    load: [],
    shared: [],
    residual: [],
    cells: [],
    nested: [],
    stateful: [],
    bilstm: ["lower", "upper"],
    both_ways: ["both"],
    cnn_lstm: ["convolution", "pooling"],
    seq2seq: ["decoder"],
    tickets: ["of_body"],
    flattened: ["flat"],
    autoencoder: ["decoder"],
    attention: ["attention", "mean"],
    backwards: ["back"],
}
