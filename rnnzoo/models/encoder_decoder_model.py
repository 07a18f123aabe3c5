"""`EncoderDecoder`: the shell around a functional encoder and a functional decoder."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras
from keras import ops

from rnnzoo import _checks
from rnnzoo.core.feedback import run_steps
from rnnzoo.core.spec import Input
from rnnzoo.feed.source_target import PairInputs
from rnnzoo.generation.options import options, refuse_given
from rnnzoo.generation.translation import write_tokens, write_values
from rnnzoo.heads.head import Head
from rnnzoo.layers.recurrent import State, Tensor
from rnnzoo.models.blueprint import Blueprint
from rnnzoo.models.shell import Shell
from rnnzoo.training.defaults import fingerprint
from rnnzoo.training.windows import Cut, Task, run_core


@keras.saving.register_keras_serializable(package="rnnzoo")
class EncoderDecoder(Shell):
    """A Keras model from source sequences to target sequences.

    Made by `rnnzoo.encoder_decoder`. `fit`, `evaluate` and `predict` take a dict with

    * `source`: `(batch, source time, features)` or tokens `(batch, source time)`,
    * `target`: `(batch, time, features)` or tokens `(batch, time)`, without start and end,
    * where rows differ in length, `source_mask` or `source_lengths`, `target_mask` or
      `target_lengths`; padding comes at the end and changes no output;

    or, where the model was made with several inputs, these by name in the place of the source, and
    beside the target what is static and what is known of the target's steps;

    and no `y`: the outputs are trained to be the target and, of tokens, the end token after
    it. Either side may also be a list of sequences of different length. Loss and metrics are
    means over real steps. `predict` gives the outputs with the true target fed in,
    `(batch, time, outputs)`, of tokens with one step more; `generate` needs no target.

    Args:
        blueprint: the settings.
        name: name of the model.
    """

    form = "encoder_decoder"
    carries_state = False
    decodes = True

    def __init__(self, blueprint: Blueprint, name: str | None = None, **kwargs: Any):
        _checks.instance("blueprint", blueprint, Blueprint, "a Blueprint of encoder_decoder")
        super().__init__(name=_checks.label("name", name), **kwargs)
        self.blueprint = blueprint
        (self.encoder, self.source_spec), (self.decoder, self.decoder_spec) = blueprint.models(
            self.dtype_policy
        )
        # As losses see it: the alignment is no output of theirs.
        shown = {"outputs": self.decoder_spec.outputs["outputs"]}
        self.spec = dataclasses.replace(self.decoder_spec, outputs=shown)
        self.reader = PairInputs(
            {side: blueprint.inputs_of(side) for side in ("source", "target")},
            blueprint.inputs_of("static"),
            blueprint.start,
            blueprint.end,
            blueprint.vocabularies,
            blueprint.outputs,
        )
        # Holds the decoder's state between the windows of one batch.
        self.make_carries(self.spec, carries=False)
        self.sampling_probability = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="sampling_probability"
        )
        self.sampling_seed = keras.random.SeedGenerator()
        self.begun_with = fingerprint(self)
        self.built = True

    @property
    def start(self) -> int | None:
        """Id of the token that starts every target; None for real-valued targets."""
        return self.blueprint.start

    @property
    def end(self) -> int | None:
        """Id of the token that ends every target; None for real-valued targets."""
        return self.blueprint.end

    @property
    def never(self) -> tuple[int, ...]:
        """Tokens that no target has: the start, unless it is the end too."""
        return () if self.start in (None, self.end) else (self.start,)

    @property
    def head(self) -> Head | None:
        """What the outputs say of a real-valued target; None for plain numbers and tokens."""
        return self.blueprint.outputs

    @property
    def heads(self) -> dict[str, Head]:
        """The head of the outputs by their name, as `RecurrentModel.heads`; {} where there is
        none.
        """
        return self.spec.heads

    @property
    def vocabularies(self) -> dict[str, Any]:
        """The `Vocabulary` of each side, None where a side has none."""
        return self.reader.vocabularies

    @property
    def constants(self) -> list[str]:
        """What the decoder reads at every step, the same at each: what is static comes last."""
        inputs = [name for name, one in self.spec.inputs.items() if not one.per_step]
        return sorted(inputs, key=lambda name: name in self.reader.static)

    @property
    def of_source(self) -> list[str]:
        """Which of the `constants` the encoder makes of the source."""
        return [name for name in self.constants if name not in self.reader.static]

    @property
    def reads_on(self) -> bool:
        """Whether the encoder can read a source in parts: not where it reads both ways."""
        return bool(self.source_spec.states)

    @property
    def cores(self) -> list[keras.Model]:
        """The functional models that hold its weights."""
        return [self.encoder, self.decoder]

    @property
    def core_of_outputs(self) -> keras.Model:
        """The functional model that ends with the outputs."""
        return self.decoder

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The outputs; without a target, what the encoder makes of the source."""
        batch = self.reader.standardize(inputs)
        return self.run(batch, training) if "inputs" in batch else self.encode(batch, training)

    def compute_output_spec(self, inputs: Any, training: Any = None) -> Any:
        target = inputs["target"].shape if "target" in inputs else inputs["inputs"].shape
        longer = "target" in inputs and self.end is not None and target[1] is not None
        output = self.spec.outputs["outputs"]
        steps = target[1] + 1 if longer else target[1]
        return keras.KerasTensor((target[0], steps, *output.shape), output.dtype)

    def output_specs(self, x: dict[str, Any]) -> Any:
        """Symbols of the outputs for a batch of symbols."""
        return self.compute_output_spec(x)

    def run(
        self, x: dict[str, Tensor], training: bool, cut: Cut | None = None, carry: Any = None
    ) -> Any:
        """The outputs for a batch in its one form.

        Args:
            x: the source, `source_mask`, `inputs`, `mask`, and what else the model reads; of a
                window with `first`, True where it is the first of its batch, and `before`, see
                `encode`.
            training: whether dropout is at work.
            cut: of a window, how it is run.
            carry: that of the windows.
        """
        encoded = self.encode(x, training)
        if "inputs" not in x:
            return encoded
        state = {key: encoded[key] for key in self.spec.states}
        rows = ops.shape(x["inputs"])[0]
        if carry is not None:
            carried = carry.read(rows)
            state = {k: ops.where(x["first"], s, carried[k]) for k, s in state.items()}
        values = {name: x[name] for name in self.spec.step_inputs}
        values |= self._truth(x["inputs"], training)
        constants = {key: encoded[key] for key in self.constants}

        def decode(values: dict, training: bool) -> dict:
            return self.decode({**values, **constants}, training)

        outputs, state = run_core(decode, self.spec, values, state, cut, training)
        if carry is not None:
            carry.write(state, rows)
        return outputs["outputs"]

    def encode(self, batch: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """What the decoder needs of a source: its first states, and with attention the memory.

        Args:
            batch: the source, `source_mask`, what is static, and `before`, where the source goes
                on from what an earlier call returned.
            training: whether dropout is at work.
        """
        mask, before = batch["source_mask"], batch.get("before")
        rows = ops.shape(mask)[0]
        own = list(self.source_spec.states)
        states = before or (self.source_spec.initial_state(self.encoder, rows) if own else {})
        values = {name: batch[name] for name in self.source_spec.inputs}
        values |= {"source_mask": mask, **{key: states[key] for key in own}}
        encoded = dict(self.encoder(values, training=training))
        started = self.initial_state(rows)  # of states that the encoder knows nothing of
        encoded |= {key: started[key] for key in self.spec.states if key not in encoded}
        if self.of_source:
            encoded["source_mask"] = mask
            for key in self.of_source if before else ():
                encoded[key] = ops.concatenate([before[key], encoded[key]], axis=1)
        return encoded | {name: batch[name] for name in self.reader.static}

    def decode(self, values: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """The decoder's outputs and states, step by step where one call cannot do it."""
        if "truth" in values or self.blueprint.input_feeding:
            return run_steps(self.decoder, self.decoder_spec, values, training)
        return dict(self.decoder(values, training=training))

    def train_batch(
        self, state: Any, x: dict, y: Any, weight: Any, update: Callable, forward: Callable
    ) -> Any:
        """The training state after all updates on one batch: one, or one for each window.

        All of the source but its last window is read forward only, where that can be.
        """
        truncation = self.settings.truncation
        if truncation is None:
            return update(state, x, y, weight, None, 1.0, None)
        source = {key: x[key] for key in (*self.source_spec.step_inputs, "source_mask")}
        static = {key: x[key] for key in self.reader.static}
        if self.reads_on:
            head, source = truncation.split_source(source, "source_mask")
            state, before = forward(state, head | static, None)
            source["before"] = before

        def of_window(state, x, y, weight, cut, share, start) -> Any:
            # One for each row, as it is to be selected by.
            zeros = ops.zeros((ops.shape(x["mask"])[0], 1), "int32")
            x = {**x, "first": ops.equal(zeros + start, 0)}
            return update(state, x, y, weight, cut, share, self.window_carry)

        task = Task(
            update=of_window,
            forward=lambda state, x: forward(state, x, self.window_carry),
            x={key: x[key] for key in (*self.spec.step_inputs, "mask")},
            still=source | static,
            y=y,
            weight=weight,
            timed=[value is not None for value in keras.tree.flatten((y, weight))],
            last_only=False,
            mask="mask",
        )
        return truncation.run(task, state)

    def output_masks(self, x: Any, y_pred: Any) -> Any:
        """The steps of the outputs that count."""
        if x is None:
            return None
        return x["mask"][:, ops.shape(x["mask"])[1] - ops.shape(y_pred)[1] :]

    def generate(
        self,
        source: Any,
        max_length: int | None = None,
        sampler: Any = "greedy",
        *,
        steps: int | None = None,
        min_length: int = 0,
        forbidden: Iterable[int] = (),
        samples: int | None = None,
        seed: int | None = None,
        batch_size: int = 32,
    ) -> Any:
        """The targets that the model writes for `source`, which is encoded once.

        Args:
            source: an array as in `fit`, or a dict with `source` and `source_mask` or
                `source_lengths` (a batch of `fit`, whose target is left out), or a list of
                sequences of different length, or strings where the model was made with a source
                `Vocabulary`. Of a model with several inputs a dict by their names: all but the
                target, with as many steps of the `target_inputs` as are to be written.
            max_length: target tokens at most, the end token included. For tokens only. What is
                known of the target's steps must reach to the last but one of them.
            sampler: 'greedy', 'sample', or an object of `rnnzoo.decoding`, as
                `Sample(temperature=0.7, seed=1)` or `Beam(5)`.
            steps: steps to write. For real-valued targets only, as are `samples` and `seed`; by
                default those of the `target_inputs`, where the model has such. The decoder is
                fed the numbers that it wrote, of a head its means (medians where it has none).
            min_length: tokens before the end token may come.
            forbidden: ids of tokens that never come.
            samples: paths drawn for each row, each fed its own draws, where the model ends with a
                head that draws them; None feeds means.
            seed: an integer of at least 0, which with its number draws a row's paths, so that
                they depend on no other row; None draws one from NumPy's generator.
            batch_size: rows that run at a time, each with all of its samples; it changes no
                result.

        Returns:
            `rnnzoo.Generated` for tokens; for real values an array `(batch, steps, features)` or,
            where the model ends with a head, a `rnnzoo.Forecast`, without a state.

        Raises:
            ValueError: an argument out of its range or for the other kind of target, a source
                that does not fit the model; `samples` from a head that draws none.
        """
        if self.start is None:
            known = self.reader.beside and steps is None
            if not known and steps is None or max_length is not None or sampler != "greedy":
                raise ValueError(
                    "a decoder of real values has no end token and no sampler: generate must be "
                    f"given steps alone; received steps={_checks.shown(steps)}, "
                    f"max_length={_checks.shown(max_length)}, sampler={_checks.shown(sampler)}"
                )
            given = {"min_length": min_length, "forbidden": forbidden}
            refuse_given(given, "tokens", "numbers, drawn by samples=n")
            found = write_values(self, source, steps, samples, seed, batch_size)
            return found.mean if self.head is None else found
        given = {"samples": samples, "seed": seed}
        refuse_given(given, "numbers", "tokens, drawn by sampler=Sample(seed=...)")
        if steps is not None:
            raise ValueError(
                "a decoder of tokens writes until its end token: generate must be given "
                f"max_length, not steps; received steps={_checks.shown(steps)}"
            )
        chosen = options(sampler, max_length, self.end, min_length, forbidden)
        chosen = chosen._replace(forbidden=chosen.forbidden + self.never)
        return write_tokens(self, source, chosen, batch_size)

    def initial_state(self, batch_size: int | Tensor) -> State:
        """A decoder state of zeros: dict of `(batch_size, units)` tensors by name."""
        return self.spec.initial_state(self.decoder, batch_size)

    @property
    def inputs_of_preset(self) -> dict[str, Input]:
        """What a batch of sources and targets is made of, by name."""
        parts = [self.blueprint.inputs_of(part) for part in ("source", "static", "target")]
        return parts[0] | parts[1] | parts[2]

    def get_config(self) -> dict:
        dtype = keras.dtype_policies.serialize(self.dtype_policy)
        return {"name": self.name, "dtype": dtype, "blueprint": self.blueprint.get_config()}

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None) -> "EncoderDecoder":
        own = {key: config.get(key) for key in ("name", "dtype")}
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(Blueprint.from_config(config["blueprint"]), **own)

    def _truth(self, inputs: Tensor, training: bool) -> dict[str, Tensor]:
        """Where a step is fed the true target; nothing where that is everywhere."""
        sampling = self.settings.sampling
        if sampling is None or not (training or sampling.validation):
            return {}
        probability = self.sampling_probability if training else sampling.validation
        drawn = keras.random.uniform(ops.shape(inputs)[:2], seed=self.sampling_seed)
        return {"truth": drawn >= probability}
