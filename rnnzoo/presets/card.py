"""`Card`: what is known of a model of the zoo; written by commands, read by people and hubs."""

import dataclasses
import json
import types
import typing
from typing import Any

from rnnzoo import _checks
from rnnzoo.data.sound import LogMel
from rnnzoo.presets.training import Training
from rnnzoo.training.trainer import SequenceTrainer

# Grows when a preset of today could not be read by the code of yesterday.
FORMAT = 1
LICENCES = ("data", "weights")
# As hubs call them.
HUB_LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "CC BY 4.0": "cc-by-4.0"}
HUB_LICENCES |= {"CC BY-SA 4.0": "cc-by-sa-4.0", "CC BY 2.0": "cc-by-2.0"}
HUB_LICENCES |= {"CC BY-ND 4.0": "cc-by-nd-4.0", "BSD 3-clause": "bsd-3-clause"}
_PARTS = {"sound": LogMel, "training": Training}


@dataclasses.dataclass(frozen=True)
class Card:
    """What is known of a model: where it comes from, what it was measured to be worth.

    Attributes:
        name: 'family.data'.
        task: as hubs name tasks: 'text-generation', 'text-classification', and so on.
        form, cell: 'one_to_one', 'many_to_one' or 'encoder_decoder'; 'lstm', 'gru', ...
        paper, year, source: of the architecture; where the figures of others were read.
        licence: dict of 'data' and 'weights'.
        data: what it was trained on, and the split.
        parameters: how many numbers are trained.
        metric: what `published` and `measured` are, with unit and data.
        published: the figure of the paper, in words; None where there is none.
        measured: the figure of these weights; None for an architecture without.
        baseline: figures of plain methods on the same data, by their names.
        command, minutes, machine, date: what trained it, and how long that took where and when.
        files: sha256 of each file of the preset, by name.
        labels: names of the classes.
        end: the token that ends what it writes; None writes on and on.
        sound: how a recording becomes the steps that it reads; None where it reads no sound.
        training: how it is trained, see `compile`.
        notes: what else there is to know.
        format: version of the layout of presets.
    """

    name: str
    task: str
    form: str
    cell: str
    paper: str | None = None
    year: int | None = None
    source: str | None = None
    licence: dict[str, str] = dataclasses.field(default_factory=dict)
    data: str | None = None
    parameters: int | None = None
    metric: str | None = None
    published: str | None = None
    measured: float | None = None
    baseline: dict[str, float] = dataclasses.field(default_factory=dict)
    command: str | None = None
    minutes: float | None = None
    machine: str | None = None
    date: str | None = None
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    labels: list[str] | None = None
    end: str | None = None
    sound: LogMel | None = None
    training: Training | None = None
    notes: str | None = None
    format: int = FORMAT

    @property
    def trained(self) -> bool:
        """Whether there are weights."""
        return bool(self.files)

    def compile(
        self, model: SequenceTrainer, epochs: int | None = None, updates: int | None = None
    ) -> SequenceTrainer:
        """`model`, compiled with the optimizer, schedule, clip and loss that the card tells.

        Dropout is a part of the model, see `rnnzoo.zoo.build`.

        Args:
            model: the model to compile.
            epochs, updates: passes over the data, and updates in each, that the schedule of the
                learning rate is for; the card's own by default.

        Raises:
            ValueError: a card that does not tell how its model was trained.
        """
        if self.training is None:
            raise ValueError(
                f"the card of {self.name} does not tell how it was trained; received training=None."
                " Compile the model yourself: model.compile(optimizer, loss)."
            )
        return self.training.compile(model, epochs, updates)

    def check_licence(self) -> None:
        """ValueError unless the licences of data and weights are told."""
        missing = [part for part in LICENCES if not self.licence.get(part)]
        if missing:
            raise ValueError(
                f"a card must tell the licence of data and of weights before others get it; the "
                f"card of {self.name} lacks that of {' and '.join(missing)}. Save the model with "
                "licence={'data': ..., 'weights': ...}."
            )

    def to_json(self) -> str:
        """The card as the text of `card.json`."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, place: str) -> "Card":
        """The card of the file `place`, whose text this is.

        Raises:
            ValueError: what is no card, or one of a newer version.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _unfit(place, f"it is no JSON ({error})") from error
        if not isinstance(values, dict):
            raise _unfit(place, f"it holds {_checks.shown(values)}")
        version = values.get("format")
        if not isinstance(version, int) or version < 1:
            raise _unfit(place, f"its format is {_checks.shown(version)}")
        if version > FORMAT:
            raise ValueError(
                f"{place} must be of format {FORMAT} or older; received format {version}, of a "
                "newer rnnzoo: update it with pip install --upgrade rnnzoo"
            )
        known = {field.name: field for field in dataclasses.fields(cls)}
        strange = sorted(set(values) - set(known))
        needed = {"name", "task", "form", "cell", "files", "format"}
        if strange or needed - set(values):
            lacks = sorted(needed - set(values))
            raise _unfit(place, f"it has unknown keys {strange}, and lacks {lacks}")
        try:
            for name, made in _PARTS.items():
                part = values.get(name)
                values[name] = None if part is None else made(**part)
            for name, kind in typing.get_type_hints(cls).items():
                if name in values and not _fits(values[name], kind):
                    told = getattr(kind, "__name__", kind)
                    raise TypeError(f"{name} is no {told}: {_checks.shown(values[name])}")
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise _unfit(place, str(error)) from error

    def __str__(self) -> str:
        rows = {"task": self.task, "form": f"{self.form}, {self.cell}"}
        where = ", ".join(str(part) for part in (self.paper, self.year) if part)
        rows |= {"paper": where, "source": self.source, "data": self.data}
        count = None if self.parameters is None else f"{self.parameters:,}"
        rows |= {"parameters": count, "metric": self.metric, "published": self.published}
        rows["measured"] = None if self.measured is None else figure(self.measured)
        plain = [f"{figure(value)} ({name})" for name, value in self.baseline.items()]
        rows["baseline"] = "; ".join(plain)
        rows["reads"] = None if self.sound is None else f"CSV, or WAV: {self.sound.told()}"
        rows["licence"] = "; ".join(f"{what}: {text}" for what, text in self.licence.items())
        rows["command"] = self.command
        cost = "" if self.minutes is None else f"{self.minutes:g} minutes on {self.machine}"
        rows |= {"cost": cost, "date": self.date, "notes": self.notes}
        lines = [f"{name:<12}{value}" for name, value in rows.items() if value]
        state = "" if self.trained else " (an architecture; no weights are here)"
        return "\n".join([f"{self.name}{state}", *lines])

    def readme(self) -> str:
        """The card as Markdown, under the YAML head that hubs read."""
        licence = self.licence.get("weights", "not stated")
        head = {
            "library_name": "keras",
            "license": HUB_LICENCES.get(licence, "other"),
            "license_name": licence,
            "pipeline_tag": self.task,
            "tags": ["rnnzoo", "keras", "recurrent", self.cell, self.form],
        }
        # JSON is YAML, whatever the values hold.
        head = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
        plain = "".join(f"* {name}: {figure(value)}\n" for name, value in self.baseline.items())
        told = "not measured" if self.measured is None else figure(self.measured)
        cost = "" if self.minutes is None else f"{self.minutes:g} minutes on {self.machine}, "
        parts = {
            "Data": self.data,
            "Licence": f"Data: {self.licence.get('data', 'not stated')}. Weights: {licence}.",
            "Made by": f"```bash\n{self.command or 'not stated'}\n```\n\n{cost}{self.date or ''}",
            "Figures": f"{self.metric or 'no metric'}: {told}"
            + (f"\n\nPublished: {self.published}" if self.published else "")
            + (f"\n\nPlain methods on the same data:\n\n{plain}" if plain else ""),
            "Architecture": f"{self.form}, {self.cell}, {self.parameters:,} parameters. "
            + ", ".join(str(part) for part in (self.paper, self.year, self.source) if part),
            "Use": f'```python\nimport rnnzoo\n\nmodel = rnnzoo.from_preset("{self.name}")\n```',
            "Intended use": self.notes or "Not stated.",
        }
        body = "\n\n".join(
            f"## {title}\n\n{(text or 'Not stated.').strip()}" for title, text in parts.items()
        )
        return f"---\n{head}\n---\n\n# {self.name}\n\n{body}\n"


def figure(value: float) -> str:
    """A measured figure, as cards print it."""
    return f"{value:.4g}"


def _fits(value: Any, kind: Any) -> bool:
    """Whether `value`, as JSON has it, is of the type that a field of a card is annotated with."""
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(kind))
    if kind is float:
        return _checks.is_number(value)
    outer = typing.get_origin(kind)
    if outer is None:
        return isinstance(value, kind) and not isinstance(value, bool)
    if not isinstance(value, outer):
        return False
    parts = value.values() if outer is dict else value
    return all(_fits(part, typing.get_args(kind)[-1]) for part in parts)


def _unfit(place: str, why: str) -> ValueError:
    return ValueError(f"{place} must be the card of a preset; received one that is not: {why}")
