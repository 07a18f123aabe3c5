"""`EncoderDecoder`: the shell around a functional encoder and a functional decoder."""

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from rnnzoo import source_target
from rnnzoo.backend.keras_internals import set_keras_mask
from rnnzoo.blueprint import Blueprint
from rnnzoo.carry import Carry
from rnnzoo.decoder import FED
from rnnzoo.encoder import PREFIX
from rnnzoo.generation import options
from rnnzoo.inputs import refuse_reset
from rnnzoo.layers.recurrent import State, Tensor
from rnnzoo.layers.stack import initial_state
from rnnzoo.stepwise import CONSTANTS, run_steps
from rnnzoo.training import SequenceTraining
from rnnzoo.translating import write_tokens, write_values
from rnnzoo.windows import run_core


@keras.saving.register_keras_serializable(package="rnnzoo")
class EncoderDecoder(SequenceTraining):
    """A Keras model from source sequences to target sequences.

    Made by `rnnzoo.encoder_decoder`. `fit`, `evaluate` and `predict` take a dict with

    * `source`: `(batch, source time, features)` or tokens `(batch, source time)`,
    * `target`: `(batch, time, features)` or tokens `(batch, time)`, without start and end,
    * where rows differ in length, `source_mask` or `source_lengths`, `target_mask` or
      `target_lengths`; padding comes at the end and changes no output;

    and no `y`: the outputs are trained to be the target and, of tokens, the end token after
    it. Either side may also be a list of sequences of different length. Loss and metrics are
    means over real steps. `predict` gives the outputs with the true target fed in,
    `(batch, time, outputs)`, of tokens with one step more; `generate` needs no target.

    Args:
        blueprint: the settings.
        name: name of the model.
    """

    form = "encoder_decoder"

    def __init__(self, blueprint: Blueprint, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.blueprint = blueprint
        self.encoder, self.decoder = blueprint.models(self.dtype_policy)
        self.state_names = [key for key in self.decoder.input if key not in (*CONSTANTS, "inputs")]
        states = {key: self.decoder.input[key] for key in self.state_names}
        widths = {key: value.shape[-1] for key, value in states.items()}
        dtypes = {key: value.dtype for key, value in states.items()}
        # Holds the decoder's state between the windows of one batch, and nothing after it.
        self.training_carry = Carry(widths, dtypes, name="training_carry", saved=False)
        self.evaluation_carry = Carry({}, {}, name="evaluation_carry", saved=False)
        self.sampling_probability = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="sampling_probability"
        )
        self.sampling_seed = keras.random.SeedGenerator()
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
    def reads_on(self) -> bool:
        """Whether the encoder can read a source in parts: not where it reads both ways."""
        return not self.blueprint.bidirectional

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The outputs; without a target, what the encoder makes of the source."""
        batch = self.standardize(inputs)
        encoded = self.encode(batch, training)
        if "inputs" not in batch:
            return encoded
        state = {key: encoded[key] for key in self.state_names}
        rows = ops.shape(batch["inputs"])[0]
        if "first" in batch:
            carried = self.training_carry.read(rows)
            state = {k: ops.where(batch["first"], s, carried[k]) for k, s in state.items()}
        values = {"inputs": batch["inputs"], **self._truth(batch["inputs"], training)}
        constants = {key: encoded[key] for key in CONSTANTS if key in encoded}

        def run(values: dict, training: bool) -> dict:
            outputs = self.decode({**values, **constants}, training)
            return {key: value for key, value in outputs.items() if key != "alignment"}

        outputs, state = run_core(run, values, state, self._cut, training)
        if "first" in batch:
            self.training_carry.write(state, rows)
        return outputs

    def encode(self, batch: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """What the decoder needs of a source: its first states, and with attention the memory.

        Args:
            batch: `source`, `source_mask`, and `before`, where the source goes on from what
                an earlier call returned.
            training: whether dropout is at work.
        """
        source, mask, before = batch["source"], batch["source_mask"], batch.get("before")
        rows = ops.shape(source)[0]
        own = [key for key in self.encoder.input if key not in ("source", "source_mask")]
        states = before or (initial_state(self.encoder, rows, PREFIX) if own else {})
        values = {"source": source, "source_mask": mask, **{key: states[key] for key in own}}
        encoded = dict(self.encoder(values, training=training))
        if FED in self.state_names:
            encoded[FED] = self.initial_state(rows)[FED]
        if "memory" in encoded:
            encoded["source_mask"] = mask
            for key in CONSTANTS if before else ():
                encoded[key] = ops.concatenate([before[key], encoded[key]], axis=1)
        return encoded

    def decode(self, values: dict[str, Tensor], training: bool = False) -> dict[str, Tensor]:
        """The decoder's outputs and states, step by step where one call cannot do it."""
        if "truth" in values or self.blueprint.input_feeding:
            return run_steps(self.decoder, values, training)
        return dict(self.decoder(values, training=training))

    def generate(
        self,
        source: Any,
        max_length: int | None = None,
        sampler: Any = "greedy",
        *,
        steps: int | None = None,
        min_length: int = 0,
        forbidden: Iterable[int] = (),
        batch_size: int = 32,
    ) -> Any:
        """The targets that the model writes for `source`.

        Args:
            source: an array as in `fit`, or a dict with `source` and `source_mask` or
                `source_lengths`, or a list of sequences of different length, or strings
                where the model was made with a source `Vocabulary`.
            max_length: target tokens at most, the end token included. For tokens only.
            sampler: 'greedy', 'sample', or an object of `rnnzoo.decoding`, as
                `Sample(temperature=0.7, seed=1)` or `Beam(5)`.
            steps: steps to write. For real-valued targets only, fed back as they come.
            min_length: tokens before the end token may come.
            forbidden: ids of tokens that never come.
            batch_size: rows that run at a time; it changes no result.

        Returns:
            `rnnzoo.Generated` for tokens; an array `(batch, steps, features)` for real values.

        Raises:
            ValueError: an argument out of its range, a source that does not fit the model.
        """
        if self.start is None:
            if steps is None or max_length is not None or sampler != "greedy":
                raise ValueError(
                    "a decoder of real values has no end token and no sampler: generate must be "
                    f"given steps alone; received steps={steps}, max_length={max_length}, "
                    f"sampler={sampler!r}"
                )
            return write_values(self, source, steps, batch_size)
        if steps is not None:
            raise ValueError(
                "a decoder of tokens writes until its end token: generate must be given "
                f"max_length, not steps; received steps={steps}"
            )
        chosen = options(sampler, max_length, self.end, min_length, forbidden)
        return write_tokens(self, source, chosen, batch_size)

    def initial_state(self, batch_size: int | Tensor) -> State:
        """A decoder state of zeros: dict of `(batch_size, units)` tensors by name."""
        states = {key: self.decoder.input[key] for key in self.state_names}
        return {k: ops.zeros((batch_size, s.shape[-1]), s.dtype) for k, s in states.items()}

    def standardize(self, x: Any) -> dict[str, Tensor]:
        """The batch as the model runs it: see `rnnzoo.source_target.standardize`."""
        return source_target.standardize(x, self.start, self.end)

    def check_inputs(self, x: Any, lanes: int | None) -> None:
        """ValueError where `x` is no batch of source and target for this model."""
        refuse_reset(x)
        source_target.check_pair(x, self.blueprint.steps)

    def unpack(self, data: Any) -> tuple:
        """The inputs as the model runs them, what the outputs should be, and their weights."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        if y is not None:
            raise ValueError(
                "an encoder-decoder takes its target in the inputs, {'source': ..., 'target': "
                "...}, and y must be None; received a y"
            )
        return self.standardize(x), source_target.targets(x, self.end), weight

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        set_keras_mask(y_pred, _newest(x["mask"], y_pred))
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        set_keras_mask(y_pred, _newest(x["mask"], y_pred))
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def summary(self, **kwargs: Any) -> None:
        """Prints the layers of encoder and decoder, as `keras.Model.summary`."""
        self.encoder.summary(**kwargs)
        self.decoder.summary(**kwargs)

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
        if self.sampling is None or not (training or self.sampling.validation):
            return {}
        probability = self.sampling_probability if training else self.sampling.validation
        drawn = keras.random.uniform(ops.shape(inputs)[:2], seed=self.sampling_seed)
        return {"truth": drawn >= probability}

    def _feed(self, x: Any, *args: Any) -> Any:
        return super()._feed(source_target.ragged_as_arrays(x, self.blueprint.steps), *args)

    def _xla_fits(self) -> bool:
        # Batches differ in length on both sides, and XLA compiles anew for every length.
        return False

    def _symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if data_batch is None:
            _, _, batches = next(iter(iterator))
            data_batch = batches[0] if isinstance(batches, (list, tuple)) else next(batches)
        super()._symbolic_build(data_batch=self.unpack(data_batch))


def _newest(mask: Tensor, outputs: Tensor) -> Tensor:
    """The part of `mask` for `outputs`, which may be the last steps only."""
    return mask[:, ops.shape(mask)[1] - ops.shape(outputs)[1] :]
