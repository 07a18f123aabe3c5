"""A refused call changes nothing, and one that breaks off leaves a model that works."""

import sys

import keras
import numpy as np
import pytest
from keras import ops
from reference import on_jax

import rnnzoo

X = np.random.default_rng(0).integers(0, 3, (4, 6)).astype("int32")
METHODS = {
    "fit": lambda model, **more: model.fit(X, X, batch_size=2, **{"verbose": 0, **more}),
    "evaluate": lambda model, **more: model.evaluate(X, X, **{"verbose": 0, **more}),
    "predict": lambda model, **more: model.predict(X, **{"verbose": 0, **more}),
}


@pytest.fixture
def model():
    keras.utils.set_random_seed(2)
    model = rnnzoo.one_to_one(vocabulary=3, units=2, cell="simple_rnn")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def of(model):
    """All of a model that a call might change."""
    values = [np.array(ops.convert_to_numpy(v)) for v in model.core.weights]
    return values, model.settings, model.jit_compile, model.training_carry.lanes


def unchanged(model, before):
    for got, was in zip(model.core.weights, before[0], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(got), was)
    assert of(model)[1:] == before[1:]


class Refusing(rnnzoo.ResetStates):
    def configure(self, model, settings):
        raise ValueError("refused here")


@pytest.mark.parametrize("method", METHODS)
def test_a_refused_list_of_callbacks_changes_nothing(model, method):
    before = of(model)
    for callbacks in (
        [rnnzoo.TruncatedBPTT(3), Refusing(2)],
        [Refusing(2), rnnzoo.TruncatedBPTT(3)],
        [rnnzoo.TruncatedBPTT(3), rnnzoo.ScheduledSampling(0.5)],
        [rnnzoo.TruncatedBPTT(3), "no callback"],
    ):
        with pytest.raises(ValueError):
            METHODS[method](model, callbacks=callbacks)
        unchanged(model, before)


WRONG = {
    "fit": {
        "epochs": ["3", -1, 1.5, None, True],
        "initial_epoch": ["1", -1, None],
        "batch_size": [0, "2", 1.5, [2]],
        "verbose": ["loud", 3, None, [1]],
        "steps_per_epoch": [0, "1", -1],
        "validation_steps": [0, "1"],
        "validation_batch_size": [0, "1"],
        "validation_freq": ["1", 0.5, True],
        "validation_split": [1.0, -0.1, "0.5", float("nan")],
        "shuffle": ["no", 2],
        "callbacks": ["abc", 5, [object()]],
    },
    "evaluate": {
        "batch_size": [0, "2"],
        "verbose": ["loud", None],
        "steps": [0, "1"],
        "return_dict": ["yes", None],
        "callbacks": ["abc", 5],
    },
    "predict": {
        "batch_size": [0, "2"],
        "verbose": ["loud", None],
        "steps": [0, "1"],
        "callbacks": ["abc", 5],
    },
}


@pytest.mark.parametrize(("method", "name"), [(m, n) for m, names in WRONG.items() for n in names])
def test_wrong_options_are_refused_by_name_and_change_nothing(model, method, name):
    before = of(model)
    for value in WRONG[method][name]:
        with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
            METHODS[method](model, **{name: value})
        unchanged(model, before)


ALONE = {
    "validation_steps": {"validation_steps": 2},
    "validation_batch_size": {"validation_batch_size": 2},
    "validation_freq": {"validation_freq": [2]},
    "validation_data and validation_split": {"validation_data": (X, X), "validation_split": 0.5},
}


@pytest.mark.parametrize("name", ALONE)
def test_what_has_no_use_beside_the_rest_is_refused(model, name):
    before = of(model)
    with pytest.raises(ValueError, match=f"{name} (must come with|say the same)"):
        METHODS["fit"](model, **ALONE[name])
    unchanged(model, before)


def test_what_a_backup_refuses_changes_nothing(model, tmp_path):
    before = of(model)
    callbacks = [rnnzoo.BackupAndResume(tmp_path)]
    with pytest.raises(ValueError, match="initial_epoch"):
        METHODS["fit"](model, callbacks=callbacks, initial_epoch=1)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        METHODS["fit"](model, callbacks=callbacks, steps_per_epoch=1)
    for got, was in zip(model.core.weights, before[0], strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(got), was)


HOOKS = {
    "fit": ["on_train_begin", "on_epoch_begin", "on_train_batch_begin", "on_train_batch_end"]
    + ["on_epoch_end", "on_train_end"],
    "evaluate": ["on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"],
    "predict": ["on_predict_begin", "on_predict_batch_begin", "on_predict_batch_end"],
}


def test_a_model_works_after_an_error_at_any_moment(model):
    def fail(*_, **__):
        raise RuntimeError("stop here")

    clean = model.predict(X, verbose=0)
    for method, hooks in HOOKS.items():
        for hook in hooks:
            failing = keras.callbacks.Callback()
            setattr(failing, hook, fail)
            with pytest.raises(RuntimeError, match="stop here"):
                METHODS[method](model, callbacks=[rnnzoo.TruncatedBPTT(3), failing])
            assert model.settings == type(model.settings)(), hook
            assert all(np.isfinite(ops.convert_to_numpy(v)).all() for v in model.variables), hook
            assert model.predict(X, verbose=0).shape == clean.shape
    assert np.isfinite(METHODS["fit"](model).history["loss"]).all()


def test_fit_says_once_that_it_compiles(model, capsys):
    model.compile("sgd", model.loss, jit_compile=True)
    said = []
    for verbose, window in ((0, 6), (2, 3), (2, 3), (1, 3)):
        model.fit(X, X, batch_size=2, verbose=verbose, callbacks=[rnnzoo.TruncatedBPTT(window)])
        said.append(capsys.readouterr().out.count("compiling the training step (XLA) ..."))
    assert said == [0, 1, 0, 0]


CELL = """
import keras
from keras import ops


@keras.saving.register_keras_serializable(package="test_refused")
class Leaky(keras.layers.Layer):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="kernel")

    def call(self, inputs, states, training=False):
        after = 0.9 * states[0] + ops.matmul(inputs, self.kernel)
        return after, [after]

    def get_config(self):
        return {**super().get_config(), "units": self.units}
"""


def test_a_cell_of_a_users_module_is_saved_loaded_and_exported(tmp_path, monkeypatch):
    (tmp_path / "own_cells_of_a_user.py").write_text(CELL)
    monkeypatch.syspath_prepend(str(tmp_path))
    leaky = __import__("own_cells_of_a_user").Leaky
    model = rnnzoo.one_to_one(features=2, units=3, outputs=1, cell=leaky)
    x = np.random.default_rng(0).normal(size=(1, 4, 2)).astype("float32")
    expected = model.predict(x, verbose=0)
    served = rnnzoo.load_served(rnnzoo.export(model, tmp_path / "out" / "1"))
    np.testing.assert_allclose(served.new_stream().step(x[0]), expected[0], rtol=1e-4, atol=1e-6)
    pair = rnnzoo.encoder_decoder(source_features=2, target_features=1, units=3, cell=leaky)
    pair.save(tmp_path / "pair.keras")
    again = keras.models.load_model(tmp_path / "pair.keras")
    given = {"source": x, "target": x[..., :1]}
    np.testing.assert_allclose(
        again.predict(given, verbose=0), pair.predict(given, verbose=0), rtol=1e-5
    )
    if on_jax():  # no other process could import it
        monkeypatch.setattr(leaky, "__module__", "__main__")
        with pytest.raises(ValueError, match="test_refused>Leaky.*__main__.*Move it"):
            rnnzoo.export(model, tmp_path / "out" / "2")
    sys.modules.pop("own_cells_of_a_user")
