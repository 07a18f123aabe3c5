"""`python -m rnnzoo`: the zoo for people who do not write Python."""

import argparse
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rnnzoo import zoo
from rnnzoo.export.export import export
from rnnzoo.export.formats import FORMATS
from rnnzoo.presets.card import Card
from rnnzoo.presets.folder import read_card
from rnnzoo.zoo import running as answers
from rnnzoo.zoo.loading import folder_of, from_preset


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    made = argparse.ArgumentParser("python -m rnnzoo", description="Recurrent models, trained.")
    commands = made.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="the models that there are")
    for name in ("task", "cell", "form"):
        listing.add_argument(f"--{name}")
    listing.add_argument("--trained", action="store_true", help="with weights on this machine")
    what = "a name of the list, a folder, or hf://user/name"
    commands.add_parser("card", help="what is known of a model").add_argument("preset", help=what)
    run = commands.add_parser("run", help="text, a CSV or a WAV file in, the answer out")
    run.add_argument("preset", help=what)
    help = "a text; a CSV file (sequence,step,features...); a WAV file; - for standard input"
    run.add_argument("given", nargs="?", help=help)
    run.add_argument("--length", type=int, help="tokens to write at most (default: 200)")
    help = "0: always the most probable (default: 0.7 to write on, 0 to answer)"
    run.add_argument("--temperature", type=float, help=help)
    run.add_argument("--seed", type=int, help="of the draws (default: 0)")
    out = commands.add_parser("export", help="write a model for a server or a device")
    out.add_argument("preset", help=what)
    out.add_argument("format", choices=FORMATS)
    out.add_argument("--to", type=Path, help="the folder of a version (default: ./NAME/1)")
    out.add_argument("--overwrite", action="store_true")
    return made


def lines(args: argparse.Namespace) -> Iterator[str]:
    """What the command prints, line by line.

    Raises:
        ValueError, OSError, ImportError: as the functions of the zoo.
    """
    if args.command == "list":
        chosen = {name: getattr(args, name) for name in ("task", "cell", "form")}
        for name in zoo.list(**chosen, trained=True if args.trained else None):
            card = zoo.card(name)
            figure = "" if card.measured is None else f"{card.measured:g} {card.metric}"
            yield f"{name:<24}{card.task:<25}{figure or 'architecture'}"
    elif args.command == "card":
        folder = folder_of(args.preset)
        yield str(zoo.card(args.preset) if folder is None else read_card(folder))
    elif args.command == "export":
        model = from_preset(args.preset)
        to = args.to or Path(Path(args.preset).name) / "1"
        yield str(export(model, to, args.format, args.overwrite))
    else:
        yield from _answers(args)


def _answers(args: argparse.Namespace) -> Iterator[str]:
    model = from_preset(args.preset)
    card = read_card(folder_of(args.preset))
    texts = all(model.vocabularies.values())
    _check_runs(model, card, texts)
    writes = model.decodes or (texts and not model.spec.of_last_step)
    given = [name for name in ("length", "temperature", "seed") if getattr(args, name) is not None]
    if given and not writes:
        raise ValueError(
            f"{', '.join(f'--{name}' for name in given)} must be left out: {card.name} writes no "
            f"text; received {args.preset!r}"
        )
    length = 200 if args.length is None else args.length
    seed = 0 if args.seed is None else args.seed
    if not texts:
        if args.given is None or not Path(args.given).is_file():
            sound = "" if card.sound is None else f", or a WAV file of {card.sound.told()}"
            raise ValueError(
                f"{card.name} reads numbers, so it must be given a CSV file with the columns "
                f"sequence, step, features...{sound}; received {args.given!r}"
            )
        sound = Path(args.given).suffix.lower() == ".wav"
        yield from (answers.heard if sound else answers.computed)(model, card, args.given)
    elif model.decodes or model.spec.of_last_step:
        if args.given is None:
            raise ValueError(f"{card.name} must be given a text, or - for standard input; got none")
        asked = [_text(args.given)]
        if args.given == "-":  # where an empty line asks nothing
            asked = [line for line in asked[0].split("\n") if line.strip()]
        if model.decodes:
            yield from answers.answered(model, asked, length, args.temperature or 0.0, seed)
        else:
            yield from answers.classified(model, card, asked)
    else:
        text = None if args.given is None else _text(args.given)
        heat = 0.7 if args.temperature is None else args.temperature
        yield answers.written(model, card, text, length, heat, seed)


def _check_runs(model: Any, card: Card, texts: bool) -> None:
    """ValueError unless a text, a table or a sound is all that `model` reads, and it answers one.

    Args:
        model: the model.
        card: its card.
        texts: whether it has the vocabularies for texts.
    """
    inputs, outputs = model.inputs_of_preset, model.spec.outputs
    numbers = all(len(one.shape) == 1 and one.vocabulary is None for one in inputs.values())
    alone = len(inputs) == 2 if model.decodes else len(inputs) == len(outputs) == 1
    if not alone or not (texts or numbers and not model.decodes):
        raise ValueError(
            "run takes models of one input, of numbers or, with a vocabulary, of text, and of one "
            f"output or an answer in text; {card.name} has {', '.join(inputs)} and "
            f"{', '.join(outputs)}, {model.vocabularies}: use rnnzoo.from_preset from Python"
        )


def _text(given: str) -> str:
    """What is to be read: `given`, or standard input where that is -."""
    try:
        text = sys.stdin.read() if given == "-" else given
        text.encode()  # without a locale, bytes that are no UTF-8 come as half surrogates
    except UnicodeError as error:
        raise ValueError(f"a text must be in UTF-8; received {error}") from error
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status of the command: 0, or 2 with the reason on standard error."""
    made = parser()
    args = made.parse_args(arguments)
    try:
        for line in lines(args):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has had enough, and nothing must be left to be flushed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError) as error:
        print(f"{made.prog}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_: f"python -m rnnzoo: {message}\n"
    # Of attention to a source of one step.
    warnings.filterwarnings("ignore", "You are using a softmax over axis -1")
    sys.exit(main())
