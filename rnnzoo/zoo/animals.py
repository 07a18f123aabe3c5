"""The animals: named architectures, each with the sizes and the training of its paper."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras

from rnnzoo.cells.lstnet import LSTNetCell
from rnnzoo.data.sound import LogMel
from rnnzoo.models.encoder_decoder import encoder_decoder
from rnnzoo.models.many_to_one import many_to_one
from rnnzoo.models.one_to_one import one_to_one
from rnnzoo.presets.card import Card
from rnnzoo.presets.training import Training

FACTORIES = {
    "one_to_one": one_to_one,
    "many_to_one": many_to_one,
    "encoder_decoder": encoder_decoder,
}


@dataclasses.dataclass(frozen=True)
class Animal:
    """A named architecture.

    Attributes:
        card: what is known of it before it is trained.
        sizes: the arguments of the factory of its form.
        initial: bound of the uniform distribution that all weights start from; None leaves
            each layer's own.
    """

    card: Card
    sizes: dict[str, Any]
    initial: float | None = None

    def build(self, changes: dict[str, Any]) -> Any:
        """A new model, some of its sizes changed; ValueError for what the form does not have."""
        factory: Callable = FACTORIES[self.card.form]
        allowed = inspect.signature(factory).parameters
        strange = [name for name in changes if name not in allowed]
        if strange:
            raise ValueError(
                f"changes of {self.card.name} must be arguments of rnnzoo.{self.card.form}: "
                f"{', '.join(allowed)}; received {', '.join(strange)}"
            )
        name = self.card.name.replace(".", "_")
        model = factory(**{"cell": self.card.cell, "name": name, **self.sizes, **changes})
        if self.initial is not None:
            for weight in model.trainable_weights:
                # One for each: an initializer of Keras gives the same values at each call.
                uniform = keras.initializers.RandomUniform(-self.initial, self.initial)
                weight.assign(uniform(weight.shape, weight.dtype))
        return model


def _card(name: str, task: str, form: str, cell: str, **told: Any) -> Card:
    return Card(name=name, task=task, form=form, cell=cell, **told)


def _language_model(size: str, units: int, dropout: float, initial: float, **told: Any) -> Animal:
    """A word model of Zaremba et al.; their loss is a sum over the window, ours is a mean."""
    window, rate, clip = told.pop("window"), 1.0, told.pop("clip")
    training = Training(
        rate=rate * window,
        clip=clip / window,
        window=window,
        batch=20,
        updates=929_589 // 20 // window,
        optimizer="sgd",
        schedule="halving",
        metric="perplexity",
        **told.pop("schedule"),
    )
    card = _card(
        f"zaremba.{size}",
        "text-generation",
        "one_to_one",
        "lstm",
        paper="Recurrent Neural Network Regularization (Zaremba, Sutskever & Vinyals)",
        year=2014,
        source="arXiv 1409.2329; figures of tensorflow/models, ptb_word_lm.py",
        data="Penn Treebank, 10,000 words (of the LDC: bring your own)",
        metric="perplexity per word, test",
        training=training,
        notes="The rate and the clip are those of the paper for a loss that is the mean over a "
        "window, where the paper's is the sum. One dropout mask a row and window, where the "
        "paper draws one for each step. Schedules and figures are those of ptb_word_lm.py: the "
        "rate of the medium model falls by 1.25 an epoch, where the paper has 1.2.",
        **told,
    )
    sizes = {"vocabulary": 10_000, "units": [units] * 2, "embedding": units, "dropout": dropout}
    return Animal(card, sizes, initial)


_LSTM = "Long short-term memory (Hochreiter & Schmidhuber)"
_GRU = "Learning phrase representations using RNN encoder-decoder (Cho et al.)"
_LUONG = "Effective approaches to attention-based neural machine translation (Luong et al.)"

ANIMALS = [
    Animal(
        _card(
            "char_rnn.shakespeare",
            "text-generation",
            "one_to_one",
            "lstm",
            paper="The Unreasonable Effectiveness of Recurrent Neural Networks (Karpathy)",
            year=2015,
            source="karpathy.github.io/2015/05/21/rnn-effectiveness; figure of nanoGPT's README",
            licence={"data": "public domain", "weights": "Apache-2.0"},
            data="Tiny Shakespeare (karpathy/char-rnn): first 90 % of the characters to train, "
            "last 10 % to validate, no test set; read as one stream, the state carried through.",
            metric="nats per character, validation",
            published="1.4697, a Transformer of 10.7 million parameters (nanoGPT)",
            training=Training(
                rate=5e-3,
                epochs=12,
                updates=314,
                batch=64,
                window=50,
                warm=1 / 3,
                metric="perplexity",
            ),
            notes="Demonstrations and tests: what it writes looks like a play and means nothing. "
            "It knows the 65 characters of its text. The validation text was looked at while "
            "the settings were chosen.",
        ),
        {"vocabulary": 65, "units": [384, 384], "embedding": 128, "dropout": 0.25},
    ),
    Animal(
        _card(
            "char_rnn.first_names",
            "text-generation",
            "one_to_one",
            "lstm",
            paper="The Unreasonable Effectiveness of Recurrent Neural Networks (Karpathy)",
            year=2015,
            source="the data and the split are those of karpathy/makemore",
            licence={"data": "MIT", "weights": "Apache-2.0"},
            data="32,033 first names (karpathy/makemore), shuffled with seed 42: 80 % to train, "
            "10 % to validate, 10 % to test; packed into lanes, with a reset before each name.",
            metric="nats per character, test, the end of the name included",
            training=Training(
                rate=4e-3, epochs=30, updates=90, batch=64, window=32, metric="perplexity"
            ),
            end="\n",
            notes="A newline begins and ends each name: generate('\\n', max_length=20, "
            "sampler='sample', end=0). It knows a to z.",
        ),
        {"vocabulary": 27, "units": 256, "embedding": 32, "dropout": 0.3},
    ),
    Animal(
        _card(
            "lstm.surnames",
            "text-classification",
            "many_to_one",
            "lstm",
            paper=_LSTM,
            year=1997,
            source="the data are those of spro/practical-pytorch, which gives no figure",
            licence={"data": "MIT", "weights": "Apache-2.0"},
            data="20,050 surnames of 18 languages (spro/practical-pytorch): those with "
            "zlib.crc32(name) % 10 == 0 to test, the others to train.",
            metric="% of names right, test",
            training=Training(rate=4e-3, epochs=20, updates=281, batch=64),
            notes="Which language a surname is of. The classes are very uneven: 45 % are Russian. "
            "A toy: it says nothing of a person.",
        ),
        {
            "vocabulary": 84,
            "units": 256,
            "embedding": 64,
            "dropout": 0.5,
            "recurrent_dropout": 0.5,
            "outputs": 18,
        },
    ),
    Animal(
        _card(
            "speaker.vowels",
            "other",
            "many_to_one",
            "lstm",
            paper=_LSTM,
            year=1997,
            source="ensemble: github postnubilaphoebus/Jap_Speak_Recog",
            licence={"data": "CC BY 4.0", "weights": "CC BY 4.0"},
            data="Japanese Vowels (UCI; Kudo, Toyama & Shimbo 1999): 270 utterances of nine men "
            "to train, 370 to test; 12 LPC cepstrum coefficients a step.",
            metric="% of utterances right, test",
            published="98.86, an ensemble of 11 LSTMs [seen]",
            training=Training(rate=4e-3, epochs=60, updates=17, batch=16),
            notes="Which of nine men speaks. The scaling of the features is part of the weights: "
            "give it the coefficients as they are. The preset is five models of this architecture, "
            "trained apart and put side by side in one layer: its output is the mean of theirs.",
        ),
        {"features": 12, "units": 100, "dropout": 0.4, "recurrent_dropout": 0.3, "outputs": 9},
    ),
    Animal(
        _card(
            "gru.mnist_1d",
            "other",
            "many_to_one",
            "gru",
            paper=_GRU,
            year=2014,
            source="data and figure: greydanus/mnist1d (Greydanus, 2020), its README",
            licence={"data": "Apache-2.0", "weights": "Apache-2.0"},
            data="MNIST-1D (greydanus/mnist1d): lines of 40 values, 4,000 to train and 1,000 to "
            "test as given. Trained on each line from all 40 starts, end joined to beginning.",
            metric="% of digits right, test",
            published="91, a GRU; 94, a convolutional network; 96, people (README of the data) "
            "[seen]",
            training=Training(rate=4e-3, epochs=2, updates=1250, batch=128),
            notes="A quick stand-in for MNIST read pixel by pixel: which digit a line was drawn "
            "from. Synthetic data: it reads nothing else.",
        ),
        {"features": 1, "units": [96, 96], "dropout": 0.1, "outputs": 10},
    ),
    Animal(
        _card(
            "lstm.digits",
            "audio-classification",
            "many_to_one",
            "lstm",
            paper=_LSTM,
            year=1997,
            source="figure: SherifGamal9441/Spoken-Digit-Recognition, its README",
            licence={"data": "CC BY-SA 4.0", "weights": "CC BY-SA 4.0"},
            data="Free Spoken Digit Dataset (Jakobovski), 3,000 recordings of 6 speakers at 8 kHz: "
            "0 to 4 of each digit and speaker to test, the others to train, the same speakers. "
            "26 log-mel energies every 10 ms; of each recording seven changed copies.",
            metric="% of digits right, test",
            published="96 (F1, another split), a bidirectional LSTM [seen]",
            training=Training(rate=4e-3, epochs=10, updates=338, batch=64),
            sound=LogMel(shortest=0.1, longest=2.5),
            notes="Which digit is said, zero to nine, in English, by one of six speakers that it "
            "was trained on; of others it was not measured.",
        ),
        {"features": 26, "units": 128, "dropout": 0.3, "outputs": 10},
    ),
    Animal(
        _card(
            "gru.remaining_life",
            "other",
            "one_to_one",
            "gru",
            paper=_GRU,
            year=2014,
            source="figures: Zheng et al. (2017); arXiv 2604.27234",
            licence={"data": "NASA; none stated", "weights": "Apache-2.0"},
            data="C-MAPSS FD001 (NASA; Saxena et al., 2008): 100 engines run to failure to train, "
            "100 cut short to test, 14 of 21 sensors; trained on cycles left, 125 at most, at "
            "every cycle. Not with the project, see recipes/data/README.md.",
            metric="root mean squared error in cycles, test, against the cycles left as given",
            published="16.14, a deep LSTM (Zheng et al., 2017) [seen]; 14.93, an LSTM [seen]",
            training=Training(rate=1e-2, epochs=40, updates=52, batch=8, window=50, metric="error"),
            notes="How many cycles a simulated turbofan has left, told at each cycle; it never "
            "tells more than about 125. The scaling of the sensors is part of the weights.",
        ),
        {"features": 14, "units": 64, "dropout": 0.1, "outputs": 1},
    ),
    Animal(
        _card(
            "gnmt.scan",
            "translation",
            "encoder_decoder",
            "lstm",
            paper="Google's Neural Machine Translation System (Wu et al.)",
            year=2016,
            source="arXiv 1609.08144; data and figure: Lake & Baroni (2018)",
            licence={"data": "BSD 3-clause", "weights": "Apache-2.0"},
            data="SCAN, simple split (brendenlake/SCAN): 16,728 commands to train, 4,182 to test.",
            metric="% of commands answered right in every action, test",
            published="99.8, two LSTMs of 200 units without attention (Lake & Baroni, 2018) "
            "[recalled]",
            training=Training(
                rate=4e-3, epochs=12, updates=262, batch=64, clip=5.0, metric="sequence_accuracy"
            ),
            notes="Commands in 13 words to actions in 6. A small relative of the paper's model: "
            "one encoder layer that reads both ways, one decoder layer, attention.",
        ),
        {
            "source_vocabulary": 14,
            "target_vocabulary": 7,
            "units": 128,
            "bidirectional": True,
            "attention": "dot",
            "dropout": 0.2,
        },
    ),
    Animal(
        _card(
            "luong.pronounce",
            "translation",
            "encoder_decoder",
            "lstm",
            paper=_LUONG,
            year=2015,
            source="arXiv 1508.04025; figure: README of cmusphinx/g2p-seq2seq",
            licence={"data": "BSD 2-clause", "weights": "BSD 2-clause"},
            data="CMU Pronouncing Dictionary without stress: 12,605 of the 126,052 words to test, "
            "drawn with seed 0, the others to train, each with all of its pronunciations.",
            metric="% of words wrong, beam of 5, test",
            published="30.2, a transformer; 33.9, weighted transducers, on another split [seen]",
            training=Training(
                rate=4e-3,
                epochs=16,
                updates=949,
                batch=128,
                clip=5.0,
                metric="sequence_accuracy",
                smoothing=0.1,
            ),
            notes="How English words are said: lower-case letters to phonemes (ARPAbet). A first "
            "guess for words that a dictionary lacks; wrong most often for foreign words.",
        ),
        {
            "source_vocabulary": 30,
            "target_vocabulary": 40,
            "units": 320,
            "encoder_units": [160, 160],
            "embedding": 64,
            "bidirectional": True,
            "attention": "dot",
            "dropout": 0.25,
        },
    ),
    Animal(
        _card(
            "luong.english_french",
            "translation",
            "encoder_decoder",
            "lstm",
            paper=_LUONG,
            year=2015,
            source="arXiv 1508.04025; the data have no standard split, and so no figures",
            licence={"data": "CC BY 2.0", "weights": "CC BY 2.0"},
            data="Tatoeba, pairs of manythings.org/anki of at most 15 words a side: English "
            "sentences with zlib.crc32(sentence) % 10 == 0 to test, the others to train; the "
            "4,000 and 5,000 most frequent words.",
            metric="BLEU (sacrebleu), beam of 5, test, against all translations that are listed",
            training=Training(
                rate=4e-3,
                epochs=8,
                updates=994,
                batch=128,
                clip=5.0,
                metric="sequence_accuracy",
                smoothing=0.1,
            ),
            notes="Short everyday sentences, as in phrase books, words and marks apart: 'How are "
            "you ?'. Rare words are unknown to it.",
        ),
        {
            "source_vocabulary": 4000,
            "target_vocabulary": 5000,
            "units": 256,
            "encoder_units": 128,
            "embedding": 128,
            "bidirectional": True,
            "attention": "dot",
            "dropout": 0.2,
        },
    ),
    Animal(
        _card(
            "forecast.ett_oil",
            "time-series-forecasting",
            "one_to_one",
            "lstnet",
            paper="Modeling long- and short-term temporal patterns with deep neural networks (Lai "
            "et al.)",
            year=2018,
            source="arXiv 1703.07015; figures: Zhou et al. (2021)",
            licence={"data": "CC BY-ND 4.0", "weights": "Apache-2.0"},
            data="ETTh1 (Zhou et al., 2021), oil temperature alone, months 12 / 4 / 4: the first "
            "to train, the last to test, at each of whose hours the next 24 are told.",
            metric="mean squared error of 24 hours, in deviations of the training rows, test",
            published="0.098, Informer; 0.107, DeepAR; 0.114, an LSTM [recalled]",
            training=Training(rate=1e-3, epochs=2, updates=21, batch=16, metric="error"),
            notes="A step is the temperature in degrees Celsius and the hour, 0 to 23; the outputs "
            "are the temperatures of the next 24 hours. A linear part, which a ridge regression "
            "gives, and a GRU beside it; of other transformers it was not measured.",
        ),
        {"features": 2, "units": 56, "cell": LSTNetCell, "outputs": 24},
    ),
    _language_model(
        "small", 200, 0.0, 0.1, window=20, clip=5.0,
        schedule={"epochs": 13, "warm": 4, "divisor": 2.0}, published="115.91",
    ),
    _language_model(
        "medium", 650, 0.5, 0.05, window=35, clip=5.0,
        schedule={"epochs": 39, "warm": 6, "divisor": 1.25}, published="82.07",
    ),
    _language_model(
        "large", 1500, 0.65, 0.04, window=35, clip=10.0,
        schedule={"epochs": 55, "warm": 14, "divisor": 1.15}, published="78.29",
    ),
]  # fmt: skip

BY_NAME = {animal.card.name: animal for animal in ANIMALS}
