"""Bad input to encoder-decoders and `generate`: the rule, what is allowed, what came."""

import numpy as np
import pytest

import rnnzoo
from rnnzoo.decoding import Beam
from tests import pairs

IDS = np.array([[1, 2, 3], [4, 0, 1]])
BAD_ARGUMENTS = {
    "no source": ({"source_vocabulary": None}, "exactly one of source_features"),
    "two targets": ({"target_features": 2}, "exactly one of target_features"),
    "unknown attention": ({"attention": "luong"}, "attention must be one of None, 'dot'"),
    "units": ({"units": 0}, "units must be an integer of at least 1"),
    "start alone": ({"start": 0}, "start and end must both be token ids in 0 to 4"),
    "end alone": ({"end": 0}, "received start=None"),
    "end out of range": ({"start": 0, "end": 5}, "received end=5"),
    "feeding nothing": ({"input_feeding": True}, "needs attention"),
    "shared both ways": ({"shared": True, "bidirectional": True}, "read in both directions"),
    "shared and fed": (
        {"shared": True, "attention": "dot", "input_feeding": True},
        "input_feeding=True",
    ),
    "shared sizes": ({"shared": True, "encoder_units": 7}, "units and the size of a step must"),
    "tied sizes": ({"tied": True, "embedding": 5}, "embedding must equal the last of units"),
    "residual sizes": ({"residual": True, "units": [4, 5]}, "residual=True needs layers"),
    "activation": ({"activation": "tanh"}, "activation is for real-valued targets"),
    "dropout": ({"dropout": 1.0}, r"dropout must be in \[0, 1\)"),
    "end of real values": (
        {"target_vocabulary": None, "target_features": 2, "start": 0, "end": 1},
        "need target_vocabulary",
    ),
    "embedding of real values": (
        {
            "source_vocabulary": None,
            "source_features": 2,
            "target_vocabulary": None,
            "target_features": 2,
            "embedding": 3,
        },
        "embedding is for tokens",
    ),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments(case):
    options, message = BAD_ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        rnnzoo.encoder_decoder(**{**pairs.VOCABULARY, "units": 4, **options})


def batch(**changes):
    x = {"source": IDS, "target": IDS, **changes}
    return {key: value for key, value in x.items() if value is not None}


BAD_BATCHES = {
    "no dict": (IDS, "must be a dict with 'source' and 'target'"),
    "no target": (batch(target=None), "To write a target use generate"),
    "other key": (batch(inputs=IDS), "received keys"),
    "reset": (batch(reset=np.zeros(IDS.shape, bool)), "without 'reset'"),
    "rows differ": (batch(target=IDS[:1]), "one row for each of the 2 rows"),
    "source rank": (batch(source=IDS[..., None]), "source must have shape"),
    "source id": (batch(source=IDS + 6), "source token ids must be in 0 to 8"),
    "target id": (batch(target=IDS + 3), "target token ids must be in 0 to 4"),
    "floats": (batch(target=IDS / 2), "token ids must be integers; received target"),
    "no step": (batch(source=IDS[:, :0]), "source must have at least one step"),
    "empty source": (batch(source_lengths=np.array([2, 0])), "received an empty source in row 1"),
    "empty list": (batch(source=[[1], []], target=[[1], [2]]), "an empty source in row 1"),
    "float lists": (batch(target=[[0.5], [1.0]]), "received target of dtype float64"),
    "strings in lists": (batch(target=[["a"], ["b", "c"]]), "received target of dtype str"),
    "ragged features": (batch(target=[[[1]], [[1, 2]]]), r"of shapes \[\(1,\), \(2,\)\]"),
    "no row": (batch(source=[], target=[]), "source must have at least one row"),
    "length": (batch(target_lengths=np.array([4, 1])), "target_lengths must be in 0 to 3"),
    "both masks": (
        batch(source_lengths=np.array([1, 1]), source_mask=np.ones(IDS.shape, bool)),
        "say the same",
    ),
    "mask shape": (batch(source_mask=np.ones((2, 2), bool)), "source_mask must have shape"),
    "mask with a gap": (
        batch(target_mask=np.array([[True, False, True], [True] * 3])),
        "a step after a gap in row 0",
    ),
}


@pytest.fixture(scope="module")
def model():
    built = rnnzoo.encoder_decoder(**pairs.VOCABULARY, units=4, attention="dot")
    built.compile("sgd", pairs.cross_entropy())
    return built


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_bad_batches(model, case):
    x, message = BAD_BATCHES[case]
    before = [np.array(w) for w in model.weights]
    with pytest.raises(ValueError, match=message):
        model.fit(x, verbose=0)
    for a, b in zip(before, model.weights):
        np.testing.assert_array_equal(a, b)


def test_a_target_as_y(model):
    with pytest.raises(ValueError, match="y must be None; received a y"):
        model.fit(batch(), IDS, verbose=0)
    with pytest.raises(ValueError, match="ResetStates must be used with a model that carries"):
        model.fit(batch(), verbose=0, callbacks=[rnnzoo.ResetStates("epoch")])


BAD_CALLS = {
    "no length": ({}, "max_length must be an integer of at least 1; received max_length=None"),
    "length 0": ({"max_length": 0}, "max_length must be an integer of at least 1"),
    "steps": ({"max_length": 3, "steps": 2}, "not steps; received steps=2"),
    "sampler": ({"max_length": 3, "sampler": "best"}, "sampler must be one of 'greedy'"),
    "min_length": ({"max_length": 3, "min_length": 4}, "min_length must be at most max_length=3"),
    "forbidden": ({"max_length": 3, "forbidden": [9]}, "forbidden"),
    "batch_size": ({"max_length": 3, "batch_size": 0}, "batch_size must be an integer"),
    "strings": ({"source": ["ab"], "max_length": 3}, "strings where the model has a vocabulary"),
    "source id": ({"source": [[9]], "max_length": 3}, "source token ids must be in 0 to 8"),
    "empty": ({"source": [[1], []], "max_length": 3}, "an empty source in row 1"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_generate_of_a_pair(model, case):
    options, message = BAD_CALLS[case]
    with pytest.raises(ValueError, match=message):
        model.generate(**{"source": IDS, **options})


def test_bad_generate_of_real_values():
    model = rnnzoo.encoder_decoder(source_features=1, target_features=1, units=2)
    source = np.zeros((2, 3, 1))
    for options in ({}, {"max_length": 3}, {"steps": 3, "sampler": Beam(2)}):
        with pytest.raises(ValueError, match="generate must be given steps alone"):
            model.generate(source, **options)
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        model.generate(source, steps=0)


BAD_PROMPTS = {
    "none": (None, "prompt must be given, or a state"),
    "no row": ([], "prompt must have at least one row"),
    "empty": ([[1], []], "at least one; received"),
    "id": ([[1, 7]], "token ids must be in 0 to 6"),
    "float": ([[0.5]], "received float64"),
    "string": ("ab", "strings where the model has a vocabulary"),
}


@pytest.mark.parametrize("case", BAD_PROMPTS)
def test_bad_prompts(case):
    prompt, message = BAD_PROMPTS[case]
    model = rnnzoo.one_to_one(vocabulary=7, units=3)
    with pytest.raises(ValueError, match=message):
        model.generate(prompt, max_length=2)


@pytest.mark.parametrize(
    "options",
    [
        {"features": 3, "outputs": 2},
        {"features": 3, "outputs": rnnzoo.heads.Logits(3)},
        {"vocabulary": 5, "outputs": 4},
        {"vocabulary": 4, "outputs": rnnzoo.heads.Normal(2)},
        {"vocabulary": 5, "activation": "tanh"},
    ],
)
def test_models_that_cannot_generate(options):
    model = rnnzoo.one_to_one(units=3, **options)
    with pytest.raises(ValueError, match="generate must be called on a"):
        model.generate([[1]], max_length=2)


@pytest.mark.parametrize("value", [-0.1, 1.5, "half", True])
def test_bad_probability(value):
    with pytest.raises(ValueError, match=r"probability must be in \[0, 1\]; received"):
        rnnzoo.ScheduledSampling(value)


def test_sampling_needs_a_decoder():
    model = rnnzoo.one_to_one(vocabulary=5, units=3)
    model.compile("sgd", pairs.cross_entropy())
    with pytest.raises(ValueError, match="ScheduledSampling must be used with a model of enc"):
        model.fit(IDS, IDS, verbose=0, callbacks=[rnnzoo.ScheduledSampling(0.5)])
