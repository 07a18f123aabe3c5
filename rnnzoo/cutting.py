"""Which window a model's `call` runs while its training step is traced."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from rnnzoo.windows import Cut


class Cutting:
    """A mix-in for a model whose `call` runs its batch as a window, where it is told to."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._cuts = threading.local()  # replicas are traced in turns, in threads of their own

    @contextlib.contextmanager
    def cutting(self, cut: Cut | None) -> Iterator[None]:
        """Inside, `call` runs its batch as the window `cut`."""
        before, self._cuts.now = self._cut, cut
        try:
            yield
        finally:
            self._cuts.now = before

    @property
    def _cut(self) -> Cut | None:
        return getattr(self._cuts, "now", None)
