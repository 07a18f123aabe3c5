"""Which shapes of batches a step is compiled for with XLA, where that was left to us.

XLA compiles a step anew for each shape, which takes seconds, and then runs it up to twice as fast.
So it pays where a shape comes often, and the rule must not look at the clock: two runs of one
script have to do the same, to the last bit, also where the second goes on from a backup.
"""

# On a CPU, XLA saves about 0.07 ms at each step of a layer, and as much again for 8,192 values
# (rows times units); to compile the layer takes as long as 20,000 steps of few values save.
# Measured with LSTM layers of 64 to 320 units in 16 to 128 rows, forward and back.
_STEPS, _VALUES = 20_000, 8_192
# What it has to save, in parts of what compiling costs.
LEAST = 2.0

# The most shapes that one function is compiled for: each of them is kept.
MOST = 32


def gain(steps: int, rows: int, units: int) -> float:
    """What XLA saves in batches of so many steps in all, in parts of what compiling costs."""
    return steps * (1 + rows * units / _VALUES) / _STEPS


class Shapes:
    """The shapes that one function has met, and for which of them it is compiled.

    Attributes:
        met: by shape what XLA would have saved so far; see `gain`.
        compiled: the shapes that are compiled, in the order in which they were.
    """

    def __init__(self):
        self.met: dict[str, float] = {}
        self.compiled: list[str] = []

    def take(self, shape: str, saved: float, planned: float, least: float) -> bool:
        """Whether a batch is to run compiled.

        Args:
            shape: of the batch.
            saved: what XLA saves in this batch.
            planned: what it saves in all of this shape that are known to come in this pass.
            least: what it has to save in all, to be compiled.
        """
        pays = max(self.met.get(shape, 0.0), planned) >= least
        self.met[shape] = self.met.get(shape, 0.0) + saved
        if pays and shape not in self.compiled and len(self.compiled) < MOST:
            self.compiled.append(shape)
        return shape in self.compiled

    def state(self) -> dict:
        """What a backup keeps, fit for JSON."""
        return {"met": dict(self.met), "compiled": list(self.compiled)}

    def restore(self, state: dict) -> None:
        """Go on as from what `state` gave."""
        self.met, self.compiled = dict(state["met"]), list(state["compiled"])
