"""Say a word: letters to phonemes, encoder-decoder with attention on the CMU dictionary.

A tenth of the words is kept for the test. A word is right if one of its listed pronunciations
is met; the phoneme error rate counts edits against the nearest of them.
"""

import argparse
import re
import time
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import keras
import numpy as np
from running import parse, safeguards

import rnnzoo
from rnnzoo.curves import attention_map
from rnnzoo.data import Vocabulary, read_pairs, read_text
from rnnzoo.metrics import edit_distance

HERE = Path(__file__).resolve().parent
parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
add = parser.add_argument
add("--data", type=Path, help="pairs, one 'word <tab> P H O N E M E S' a line (default: CMU)")
add("--test", type=Path, help="pairs to test on (default: a tenth of the words of --data)")
add("--units", type=int, default=320)
add("--layers", type=int, default=1)
add("--embedding", type=int, default=64)
add("--attention", choices=["dot", "additive"], default="dot")
add("--dropout", type=float, default=0.25)
add("--smoothing", type=float, default=0.1, help="of labels (Szegedy et al., 2016)")
add("--epochs", type=int, default=12)
add("--rate", type=float, default=4e-3, help="highest learning rate")
add("--batch", type=int, default=128)
add("--beam", type=int, default=5, help="width of the beam search")
add("--limit", type=int, help="test on this many words only")
add("--seed", type=int, default=0)
add("--name", help="export to saved_models/NAME/1")
args, scope = parse(parser)


def cmu() -> tuple[list[str], list[str]]:
    """Words and pronunciations of the CMU dictionary, stress left out, without repetition."""
    lines = read_text(HERE / "data" / "cmudict" / "cmudict.dict.gz").splitlines()
    both = [line.split(" #")[0].split(" ", 1) for line in lines]
    pairs = [(re.sub(r"\(\d+\)$", "", w), re.sub(r"\d", "", said)) for w, said in both]
    words, said = zip(*dict.fromkeys(pairs))
    return list(words), list(said)


def split(words: list[str], said: list[str], seed: int) -> tuple[tuple, tuple]:
    """Training and test pairs; all pronunciations of a word go the same way."""
    distinct = sorted(set(words))
    kept = np.random.default_rng(seed).permutation(len(distinct))[: len(distinct) // 10]
    kept = {distinct[i] for i in kept}
    rows = [[i for i, w in enumerate(words) if (w in kept) == test] for test in (False, True)]
    return tuple(([words[i] for i in part], [said[i] for i in part]) for part in rows)


def rates(answers: list[str], words: list[str], listed: dict[str, list[str]]) -> tuple:
    """Word and phoneme error rates, in per cent."""
    wrong = phonemes = errors = 0
    for word, answer in zip(words, answers):
        counts = [(edit_distance(answer.split(), s.split()), len(s.split())) for s in listed[word]]
        least, length = min(counts)
        wrong, errors, phonemes = wrong + (least > 0), errors + least, phonemes + length
    return 100 * wrong / len(words), 100 * errors / phonemes


def smoothed(y, logits):
    """Cross-entropy in nats, part of it against all phonemes alike."""
    right = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
    alike = -keras.ops.mean(keras.ops.log_softmax(logits), axis=-1)
    return (1 - args.smoothing) * right + args.smoothing * alike


try:
    if args.data is None:
        train, test = split(*cmu(), args.seed)
    elif args.test is None:
        train, test = split(*read_pairs(args.data), args.seed)
    else:
        train, test = read_pairs(args.data), read_pairs(args.test)
except (OSError, ValueError) as error:
    parser.error(f"--data: {error}")
listed = {}
for word, said in zip(*test):
    listed.setdefault(word, []).append(said)
words = list(listed)[: args.limit]

keras.utils.set_random_seed(args.seed)
letters = Vocabulary.from_text("".join(train[0]), unknown=True)
phonemes = Vocabulary.from_text(" ".join(train[1]), level="word")
batches = rnnzoo.data.pairs(
    [letters.encode(word) for word in train[0]],
    [phonemes.encode(said) for said in train[1]],
    batch_size=args.batch,
    shuffle=True,
    seed=args.seed,
    pad_to_multiple_of=4,
)
updates = args.epochs * len(batches)
rate = keras.optimizers.schedules.CosineDecay(
    args.rate / 25, updates - updates // 10, warmup_target=args.rate, warmup_steps=updates // 10
)
with scope:
    model = rnnzoo.encoder_decoder(
        source_vocabulary=letters,
        target_vocabulary=phonemes,
        units=[args.units] * args.layers,
        encoder_units=[args.units // 2] * args.layers,
        bidirectional=True,
        **{name: getattr(args, name) for name in ("embedding", "attention", "dropout")},
    )
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=5.0), smoothed, metrics=["accuracy"])
begin = time.time()
model.fit(batches, epochs=args.epochs, verbose=2, callbacks=safeguards(args))
minutes = (time.time() - begin) / 60

lines, figures, longest = [], {}, max(len(said.split()) for said in train[1] + test[1])
for name, sampler in (("greedy", "greedy"), (f"beam {args.beam}", rnnzoo.decoding.Beam(args.beam))):
    begin = time.time()
    found = model.generate(words, longest + 1, sampler, batch_size=256)
    speed = len(words) / (time.time() - begin)
    answers = found.text
    wrong, errors = rates(answers, words, listed)
    figures[name] = f"{wrong:.2f} % of words wrong, {errors:.2f} % of phonemes"
    lines.append(f"{name:18} {figures[name]}, {speed:.0f} words/s")
if args.name:
    model.export(HERE.parent / "saved_models" / args.name / "1", overwrite=True, metrics=figures)

by_length = sorted(range(len(words)), key=lambda i: len(words[i]))[len(words) // 2 :]
shown = by_length[:: max(1, len(words) // 9)][:4]
for i in shown:
    print(f"{words[i]:18} {answers[i]:34} listed: {' / '.join(listed[words[i]])}")
drawn = attention_map(
    [found.alignment[i, 0] for i in shown],
    [list(words[i]) for i in shown],
    [answers[i].split() for i in shown],
    HERE / "output" / "pronounce.png",
)
print(f"\nattention          {drawn}")
print(f"training           {minutes:.1f} minutes, {model.count_params():,} parameters")
print(f"data               {len(train[0]):,} pairs to train, {len(words):,} words to test")
print(*lines, sep="\n")
