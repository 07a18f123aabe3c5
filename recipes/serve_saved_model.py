"""Write from an export of char_lm.py or pronounce.py, with TensorFlow alone: no Keras, no rnnzoo.

The export holds no state. `initial_state` gives one, `step` takes it and gives the next one
back, so one loaded model can write many texts at a time. `generate_text` does it in one call.
"""

import argparse
import json
import sys
from pathlib import Path

from quiet import load_tensorflow

load_tensorflow()

import tensorflow as tf

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("path", type=Path, help="the export, such as saved_models/char_lm/1")
parser.add_argument("--prompt", default="\n", help="text to go on from, or a word to say")
parser.add_argument("--temperature", type=float, default=0.7, help="0: the likeliest always")
parser.add_argument("--characters", type=int, default=400)
parser.add_argument("--seed", type=int, default=2)
args = parser.parse_args()

files = sorted((args.path / "assets.extra").glob("*_vocabulary.json"))
if not files:
    parser.error(f"path must be an export of a model with a vocabulary; received {args.path}")
# The first, in the order of names, is that of what goes in.
known = json.loads(files[0].read_text(encoding="utf-8"))
characters = ["[UNK]"] * known["unknown"] + known["tokens"]
ids = {character: i for i, character in enumerate(characters)}
if not args.prompt or set(args.prompt) - set(ids):
    parser.error(f"--prompt must be made of {''.join(characters)!r}; received {args.prompt!r}")

served = tf.saved_model.load(str(args.path))


def through_steps() -> None:
    """Prints a text, drawn here from the outputs of one step after the other."""
    step = served.signatures["step"]
    state = served.signatures["initial_state"](like=tf.zeros([1], tf.int32))
    tf.random.set_seed(args.seed)
    print("\n--- written by the SavedModel, through its signature `step` ---")
    inputs = tf.constant([[ids[character] for character in args.prompt]])
    for _ in range(args.characters):
        answer = step(inputs=inputs, reset=tf.zeros(inputs.shape, tf.bool), **state)
        state = {name: answer[f"{name}_out"] for name in state}
        logits = answer["outputs"][:, -1]
        if args.temperature:
            inputs = tf.random.categorical(logits / args.temperature, 1, tf.int32)
        else:
            inputs = tf.argmax(logits, axis=-1, output_type=tf.int32)[:, None]
        print(characters[int(inputs[0, 0])], end="", flush=True)
    print()


if "step" in served.signatures:
    through_steps()
print("\n--- written in one call of its signature `generate_text` ---")
settings = {
    "max_length": tf.constant([args.characters]),
    "temperature": tf.constant([args.temperature]),
    "seed": tf.constant([args.seed]),
}
answer = served.signatures["generate_text"](text=tf.constant([args.prompt]), **settings)
print(answer["text"][0].numpy().decode())
print(f"\n--- modules of this process: rnnzoo {'rnnzoo' in sys.modules}, tensorflow True ---")
