"""Uses an installed rnnzoo as a stranger would; run by `make wheel` in a clean environment."""

from importlib import metadata, resources
from pathlib import Path

import numpy as np

import rnnzoo

where = Path(rnnzoo.__file__).resolve().parent
assert where.parent != Path(__file__).resolve().parents[1], f"the checkout was imported: {where}"
assert metadata.version("rnnzoo") == rnnzoo.__version__
assert resources.files("rnnzoo").joinpath("py.typed").is_file()

model = rnnzoo.one_to_one(features=3, units=4, outputs=2)
model.compile("adam", "mse")
x, y = np.ones((2, 10, 3), "float32"), np.zeros((2, 10, 2), "float32")
history = model.fit(x, y, verbose=0, callbacks=[rnnzoo.TruncatedBPTT(window=4)])
assert np.isfinite(history.history["loss"]).all()
print(f"the wheel of rnnzoo {rnnzoo.__version__} installs and trains")
