"""Settings found by KerasTuner (`pip install 'rnnzoo[tune]'`), on validation rows only."""

import tempfile
import time

CELLS = ("lstm", "gru", "simple_rnn")


def tuned(score, minutes, seed):
    """The best of cell, units, dropout and rate that `minutes` of trials find.

    Args:
        score: a function of these by name, the smaller the better.
        minutes: no trial begins after these; the first is always made.
        seed: of the trials.

    Raises:
        ImportError: KerasTuner is not installed.
        ValueError: no trial in that time came to a finite score.
    """
    try:
        import keras_tuner
    except ImportError as error:
        raise ImportError("--tune needs KerasTuner: pip install 'rnnzoo[tune]'") from error

    class Search(keras_tuner.RandomSearch):
        def run_trial(self, trial, *args, **kwargs):
            value = score(**settings(trial.hyperparameters))
            if time.time() > end:
                self.oracle.max_trials = 1
            return value

    end = time.time() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder:
        options = {"max_trials": 1000, "seed": seed, "directory": folder, "overwrite": True}
        search = Search(objective=keras_tuner.Objective("val_loss", "min"), **options)
        search.search()
        best = search.get_best_hyperparameters()
    if not best:
        raise ValueError(
            f"a trial must come to a finite loss; received none in {minutes:g} minutes"
        )
    return settings(best[0])


def settings(hp):
    """Those of one trial, by name."""
    layers = hp.Int("layers", 1, 3)
    return {
        "cell": hp.Choice("cell", CELLS),
        "units": [hp.Choice("units", [32, 64, 128, 256], default=128)] * layers,
        "dropout": hp.Float("dropout", 0.0, 0.5, step=0.1, default=0.2),
        "rate": hp.Float("rate", 1e-3, 1e-2, sampling="log", default=4e-3),
    }
