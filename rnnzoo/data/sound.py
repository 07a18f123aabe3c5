"""Sound as steps: log-mel energies of a recording, by NumPy alone."""

import dataclasses
import os
import wave
from typing import Any

import numpy as np

from rnnzoo import _checks


@dataclasses.dataclass(frozen=True)
class LogMel:
    """How a recording becomes steps: the logarithm of the energy in bands of the mel scale.

    Frames of `frame` samples, one every `hop`, are multiplied by a Hamming window; the energies
    of their spectrum of `spectrum` points are summed in `bands` triangles, whose corners are
    equally far apart on mel = 2595 log10(1 + f / 700) from `lowest` Hz to half the rate
    (Davis & Mermelstein, 1980), and ln(energy + `floor`) is taken.

    Attributes:
        rate: samples a second.
        frame, hop: samples of a frame, and from one frame to the next.
        spectrum: points of the Fourier transform, at least `frame`.
        bands: features of a step.
        lowest: Hz, where the first band begins.
        floor: added to the energies, of samples in [-1, 1].
        shortest, longest: seconds that a recording lasts; others are refused.

    Raises:
        ValueError: sizes that are no sizes, or that do not fit each other.

    Example:

    >>> import numpy as np
    >>> sound = LogMel(rate=8000, bands=26)
    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / 8000)
    >>> steps = sound(tone)
    >>> steps.shape, set(steps.argmax(axis=1).tolist())
    ((48, 26), {11})
    """

    rate: int = 8000
    frame: int = 200
    hop: int = 80
    spectrum: int = 256
    bands: int = 26
    lowest: float = 20.0
    floor: float = 1e-6
    shortest: float = 0.025
    longest: float = 60.0

    def __post_init__(self) -> None:
        for name in ("rate", "frame", "hop", "bands"):
            _checks.positive_integer(name, getattr(self, name))
        _checks.integer("spectrum", self.spectrum, self.frame)
        half = self.rate / 2
        rule = f"from 0 up to half the rate, {half:g} Hz"
        _checks.number("lowest", self.lowest, rule, lambda value: 0 <= value < half)
        _checks.number("floor", self.floor, "above 0", lambda value: value > 0)
        _checks.number("shortest", self.shortest, "above 0", lambda value: value > 0)
        least = self.shortest
        rule = f"at least shortest, {least:g} seconds"
        _checks.number("longest", self.longest, rule, lambda value: value >= least)
        empty = np.flatnonzero(~self._triangles().any(axis=0))
        if len(empty):
            raise ValueError(
                "bands must be wide enough for each to hold one of the frequencies that spectrum "
                f"tells apart; received bands={self.bands}, spectrum={self.spectrum}, where band "
                f"{empty[0]} holds none"
            )

    def __call__(self, samples: Any) -> np.ndarray:
        """Steps `(time, bands)` float32 of samples `(n,)` in [-1, 1].

        There are 1 + (n - frame) // hop of them; fewer samples than a frame are filled up with
        zeros.

        Raises:
            ValueError: no samples, samples of several channels, or what is no number; integers
                as a sound card counts them.
        """
        samples = _checks.array("samples", samples)
        if samples.ndim != 1 or not len(samples) or samples.dtype.kind not in "fiu":
            raise ValueError(
                "samples must be numbers of shape (n,), n at least 1, of one channel; received "
                f"shape {samples.shape}, {samples.dtype}"
            )
        if not np.isfinite(samples).all() or (samples.dtype.kind in "iu" and (samples > 1).any()):
            raise ValueError(
                "samples must be finite numbers in [-1, 1]: divide those of 16 bits by 32768; "
                f"received {samples.dtype} from {samples.min()} to {samples.max()}"
            )
        samples = np.pad(samples.astype("float64"), (0, max(0, self.frame - len(samples))))
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.frame)[:: self.hop]
        spectra = np.abs(np.fft.rfft(frames * np.hamming(self.frame), self.spectrum)) ** 2
        return np.log(spectra @ self._triangles() + self.floor).astype("float32")

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """The steps of a WAV file: one channel, 16 bits, `rate` samples a second.

        Raises:
            ValueError: a file that is no such WAV, or that is too short or too long; the text
                says what it is.
            OSError: a file that cannot be read.
        """
        path = _checks.path("path", path)
        try:
            with wave.open(str(path), "rb") as file:
                told = file.getparams()
                content = file.readframes(told.nframes)
            if len(content) != told.nframes * told.nchannels * told.sampwidth:
                raise EOFError(f"of its {told.nframes} samples the last are missing")
        except (wave.Error, EOFError, RuntimeError) as error:  # the last of sizes that are false
            rule = f"{path} must be a WAV file of {self.told()}"
            why = error if str(error) else "its head is cut short"
            raise ValueError(f"{rule}; received one that is not: {why}") from error
        seconds = len(content) / (told.framerate * told.nchannels * told.sampwidth or 1)
        received = (
            f"{told.nchannels} channel{'s' * (told.nchannels > 1)}, {8 * told.sampwidth} bits, "
            f"{told.framerate} samples a second, {seconds:.3f} seconds"
        )
        fits = self.shortest <= seconds <= self.longest
        if (told.nchannels, told.sampwidth, told.framerate) != (1, 2, self.rate) or not fits:
            raise ValueError(
                f"{path} must be a WAV file of {self.told()}; received {received}. Convert it with "
                f"sox IN.wav -r {self.rate} -c 1 -b 16 OUT.wav, and cut out the part that is meant."
            )
        return self(np.frombuffer(content, "<i2") / 32768)

    def told(self) -> str:
        """What a WAV file must be, in words."""
        return (
            f"1 channel, 16 bits, {self.rate} samples a second, {self.shortest:g} to "
            f"{self.longest:g} seconds"
        )

    def _triangles(self) -> np.ndarray:
        """Weights `(frequencies, bands)` of the energies in the bands."""
        low, high = (2595 * np.log10(1 + f / 700) for f in (self.lowest, self.rate / 2))
        corners = 700 * (10 ** (np.linspace(low, high, self.bands + 2) / 2595) - 1)
        left, middle, right = corners[:-2], corners[1:-1], corners[2:]
        f = np.arange(self.spectrum // 2 + 1)[:, None] * self.rate / self.spectrum
        rising, falling = (f - left) / (middle - left), (right - f) / (right - middle)
        return np.clip(np.minimum(rising, falling), 0, None)
