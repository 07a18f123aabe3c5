"""What a SavedModel offers: for each signature a pure function of named tensors, batch first."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

from rnnzoo import backend
from rnnzoo.data.pairs import KEYS
from rnnzoo.decoding import Beam, Sample, decode
from rnnzoo.export.tables import TokenTable
from rnnzoo.generation.forecasts import fed_inputs, feed_of
from rnnzoo.generation.paths import Paths
from rnnzoo.generation.prompts import continues, read_prompt, token_step
from rnnzoo.generation.read_steps import read_rows
from rnnzoo.generation.translation import begin_target, fed_numbers, kept, target_paths
from rnnzoo.heads.head import Head

# What every signature that writes takes for each row.
_SETTINGS = {"max_length": ((), "int32"), "temperature": ((), "float32"), "seed": ((), "int32")}
_TEXT = {"text": ((), "string")}


class Signature(NamedTuple):
    """A signature of a SavedModel.

    Attributes:
        function: from a dict of tensors to a dict of tensors.
        inputs: by name, the shape without the batch and the dtype.
        stepped: names of the inputs that have as many steps as a call has.
    """

    function: Callable[[dict], dict]
    inputs: dict[str, tuple[tuple, str]]
    stepped: tuple[str, ...] = ("inputs", "reset")


def signatures_of(
    model: Any,
    tables: dict[str, TokenTable | None],
    beam: Beam,
    feed: str | None = None,
    loops: bool = True,
) -> dict:
    """The signatures of any model of rnnzoo, by name.

    Args:
        model: the model.
        tables: those that know the tokens of its sides.
        beam: the search of the signature `beam`, where it has one.
        feed: the input that a model on numbers is fed, where several could be.
        loops: whether heads tell what may take a loop, which not every format holds rightly.
    """
    if model.decodes:
        return pair_signatures(model, tables, beam, loops)
    return recurrent_signatures(model, tables["prompt"], feed, loops)


def recurrent_signatures(
    model: Any, table: TokenTable | None, feed: str | None = None, loops: bool = True
) -> dict[str, Signature]:
    """The signatures of a `model` of one core, whose tokens `table` knows."""
    core, spec = model.core, model.spec
    inputs = {name: _spec(core.input[name]) for name in spec.inputs}
    states = {name: _spec(core.input[name]) for name in spec.states}

    def whole(batch: dict) -> dict:
        outputs = model.run(model.reader.standardize(batch), training=False)
        outputs = outputs if len(spec.outputs) > 1 else {next(iter(spec.outputs)): outputs}
        return _with_summaries(outputs, spec.heads, loops)

    def initial_state(batch: dict) -> dict:
        rows = ops.shape(batch["like"])[0]
        return {key: ops.copy(state) for key, state in model.initial_state(rows).items()}

    def step(batch: dict) -> dict:
        leading = batch[spec.leading]
        rows, steps = ops.shape(leading)[:2]
        mask = {spec.mask: ops.ones((rows, steps), "bool")} if spec.mask else {}
        return _out(dict(core({**batch, **mask}, training=False)), list(spec.states))

    lengths = {"lengths": _COUNT} if spec.mask else {}
    if spec.whole_only:
        return {"serving_default": Signature(whole, inputs | lengths)}
    reset = {spec.reset: ((None,), "bool")} if spec.reset else {}
    signatures = {"serving_default": Signature(whole, inputs | lengths)}
    if states:
        stepped = (*spec.step_inputs, *reset)
        signatures |= {
            "initial_state": Signature(initial_state, {"like": _COUNT}),
            "step": Signature(step, inputs | reset | states, stepped),
        }
    if continues(model):
        signatures |= _continuing(model, table, states)
    elif feed is not None or len(fed_inputs(spec)) == 1:
        signatures |= _forecasting(model, feed, inputs, states)
    return signatures


def _with_summaries(outputs: dict, heads: dict[str, Head], loops: bool) -> dict:
    """`outputs`, and beside the parameters of a head what it can say of them."""
    said = {name: head.summaries(outputs[name], loops) for name, head in heads.items()}
    return outputs | {f"{name}_{k}": v for name, one in said.items() for k, v in one.items()}


def _forecasting(model: Any, feed: str | None, inputs: dict, states: dict) -> dict[str, Signature]:
    """A one-to-one model on numbers, which reads a series and goes on by itself."""
    core, spec, how = model.core, model.spec, feed_of(model, feed, "export")

    def paths(batch: dict, room: Any, samples: Any, seeds: Any) -> tuple[dict, dict]:
        still = {name: batch[name] for name in how.still}

        def run(values: dict, state: dict) -> tuple:
            given = {**values, **still, **state}
            flags = ops.ones(ops.shape(values[how.name])[:2], "bool")
            given |= {spec.reset: ops.logical_not(flags)} if spec.reset else {}
            given |= {spec.mask: flags} if spec.mask else {}
            outputs, state = spec.split(core(given, training=False))
            return next(iter(outputs.values())), state

        values = {name: batch[name] for name in spec.step_inputs}
        said, state = read_rows(run, values, batch["lengths"], {k: batch[k] for k in states})
        planned = {name: batch[f"future_{name}"] for name in how.others}
        given = {"said": said, "state": state, "still": still, "planned": planned}
        given |= {"steps": room, "seeds": seeds}
        return Paths(core, spec, how, room, samples, given).run(), state

    given = {**inputs, "lengths": _COUNT, **states}
    given |= {f"future_{name}": inputs[name] for name in how.others}
    return _of_numbers(paths, how.head, given)


def _of_numbers(paths: Callable, head: Head, inputs: dict) -> dict[str, Signature]:
    """`generate`, which is fed means, and of a head that draws samples `sample`.

    Args:
        paths: `(batch, steps, samples, seeds)` -> what `Paths` gives, and states to go on from.
        head: what is said.
        inputs: of both.
    """

    def run(batch: dict, samples: Any = None, seeds: Any = None) -> tuple:
        steps = ops.max(batch["steps"])
        found, states = paths(batch, ops.maximum(steps, 1), samples, seeds)
        values = found["values"][..., :steps, :]
        wanted = ops.arange(steps, dtype="int32") < batch["steps"][:, None]
        wanted = ops.reshape(wanted, (-1, *[1] * (len(values.shape) - 3), steps, 1))
        return ops.where(wanted, values, 0), {f"{k}_out": ops.copy(v) for k, v in states.items()}

    def generate(batch: dict) -> dict:
        values, states = run(batch)
        return {"outputs": values, **states}

    def sample(batch: dict) -> dict:
        # As the first row of a call in Python with that seed.
        seeds = ops.stack([batch["seed"], ops.zeros_like(batch["seed"])], axis=-1)
        values, states = run(batch, ops.max(batch["samples"]), seeds)
        quantiles = ops.moveaxis(ops.quantile(values, list(head.levels), axis=1), 0, -1)
        told = {"outputs_mean": ops.mean(values, axis=1), "outputs_quantiles": quantiles}
        return {"samples": values, **told, **states}

    inputs = {**inputs, "steps": _COUNT}
    found = {"generate": Signature(generate, inputs)}
    if head.says("sample"):
        found["sample"] = Signature(sample, {**inputs, "samples": _COUNT, "seed": _COUNT})
    return found


def _continuing(model: Any, table: TokenTable | None, states: dict) -> dict[str, Signature]:
    one = token_step(model)

    def generate(batch: dict) -> dict:
        state = {key: batch[key] for key in states}
        last, state = read_prompt(one, batch["prompt"], batch["prompt_lengths"], state)
        found = decode(one, state, last, **_settings(batch))
        carried = {f"{key}_out": value for key, value in found.state.items()}
        return kept(found) | carried | {"last": found.last}

    generate = backend.compile_call(model, generate)  # one function of the graph, used twice

    def generate_text(batch: dict) -> dict:
        prompt, lengths = table.encode(batch["text"])
        read = {"prompt": prompt, "prompt_lengths": lengths}
        read |= model.initial_state(ops.shape(lengths)[0])
        found = generate(read | {key: batch[key] for key in _SETTINGS})
        return {"text": table.decode(found["tokens"], found["lengths"]), "scores": found["scores"]}

    prompt = {"prompt": ((None,), "int32"), "prompt_lengths": _COUNT}
    signatures = {"generate": Signature(generate, prompt | states | _SETTINGS)}
    if table is not None:
        signatures["generate_text"] = Signature(generate_text, _TEXT | _SETTINGS)
    return signatures


def pair_signatures(
    model: Any, tables: dict[str, TokenTable | None], beam: Beam, loops: bool = True
) -> dict[str, Signature]:
    """The signatures of an encoder-decoder `model`; `tables` know the tokens of its sides."""
    decoder = model.decoder
    names = [*model.spec.states, *model.of_source]
    source = {name: _spec(model.encoder.input[name]) for name in model.source_spec.inputs}
    source["source_lengths"] = _COUNT
    known = {name: _spec(decoder.input[name], open_time=True) for name in model.reader.beside}
    target = {"target": _spec(decoder.input["inputs"], open_time=True), **known}
    target["target_lengths"] = _COUNT

    def whole(batch: dict) -> dict:
        return _with_summaries({"outputs": model(batch, training=False)}, model.heads, loops)

    def encode(batch: dict) -> dict:
        encoded = model.encode(model.reader.standardize(batch))
        return {key: ops.copy(encoded[key]) for key in names}

    def decode_step(batch: dict) -> dict:
        return _out(model.decode(dict(batch)), list(model.spec.states))

    step = {"inputs": target["target"], **known}
    step |= {key: _spec(decoder.input[key]) for key in (*names, *model.reader.static)}
    signatures = {
        "serving_default": Signature(whole, source | target),
        "encode": Signature(encode, source),
        "decode_step": Signature(decode_step, step, ("inputs", *known)),
    }
    if model.head is not None and not model.head.says("point"):
        return signatures  # nothing that it says could be fed
    if model.start is None:

        def paths(batch: dict, room: Any, samples: Any, seeds: Any) -> tuple[dict, dict]:
            given = model.reader.standardize(batch)
            return target_paths(model, given, room, samples, room, seeds), {}

        return signatures | _of_numbers(paths, fed_numbers(model).head, source | known)
    return signatures | _translating(model, tables, beam, source | known)


def _translating(model: Any, tables: dict, beam: Beam, source: dict) -> dict[str, Signature]:
    others = {name: spec for name, spec in source.items() if name not in KEYS}

    def write(batch: dict, sampler: Any) -> Any:
        begun = begin_target(model, model.reader.standardize(batch), sampler.copies)
        rules = {"end": model.end, "forbidden": model.never}
        return decode(*begun, **rules, **_settings(batch, sampler))

    def generate(batch: dict) -> dict:
        return kept(write(batch, _sampler(batch)))

    generate = backend.compile_call(model, generate)  # one function of the graph, used twice

    def search(batch: dict) -> dict:
        return kept(write(batch, beam))

    def generate_text(batch: dict) -> dict:
        tokens, lengths = tables["source"].encode(batch["text"])
        read = {"source": tokens, "source_lengths": lengths}
        found = generate(read | {key: batch[key] for key in (*others, *_SETTINGS)})
        text = tables["target"].decode(found["tokens"], found["lengths"])
        return {"text": text, "scores": found["scores"]}

    signatures = {
        "generate": Signature(generate, source | _SETTINGS),
        "beam": Signature(search, source | {"max_length": _COUNT}),
    }
    if all(tables.values()):
        signatures["generate_text"] = Signature(generate_text, _TEXT | others | _SETTINGS)
    return signatures


_COUNT = ((), "int32")


def _spec(tensor: keras.KerasTensor, open_time: bool = False) -> tuple[tuple, str]:
    """Shape without the batch, and dtype, of an input of a core."""
    shape = tuple(tensor.shape[1:])
    return ((None, *shape[1:]) if open_time else shape), tensor.dtype


def _out(outputs: dict, states: list[str]) -> dict:
    """`outputs` with the states under names that differ from those they came in by."""
    return {f"{key}_out" if key in states else key: value for key, value in outputs.items()}


def _sampler(batch: dict) -> Sample:
    return Sample(batch["temperature"], seed=batch["seed"])


def _settings(batch: dict, sampler: Any = None) -> dict[str, Any]:
    """The settings of `decode` that a caller gives for each row."""
    limits = batch["max_length"]
    longest = ops.max(limits)
    return {"sampler": sampler or _sampler(batch), "max_length": longest, "limits": limits}
