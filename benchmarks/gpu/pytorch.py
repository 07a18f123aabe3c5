"""The same layers in PyTorch: cuDNN on whole sequences, and what a user has where rows reset.

"TF32" is what PyTorch's cuDNN does by itself, "float32" is full precision, "bfloat16" is the whole
layer in it. Resets: the plain loop over single steps, the state times zero where a row starts
afresh, and TorchRL's modules where they are installed.
"""

import argparse
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from benchmarks.gpu.results import (
    COLUMNS,
    Size,
    heading,
    inputs_of,
    measured,
    resets_of,
    row,
    sizes,
    torch_device,
    upstream_of,
)

DTYPES = {"TF32": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}


def on(device: torch.device, make: Callable) -> tuple:
    """What `make` gives, made on `device`. A default device would slow all calls down."""
    with device:
        return make()


def wait(_: Any) -> None:
    """Until the device has done all that it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def calls(module: nn.Module, run: Callable, size: Size, dtype: torch.dtype, kind: str) -> tuple:
    """`kind`, and the calls forward and forward with the gradients of all weights and inputs."""
    module.to(dtype)
    x = torch.tensor(inputs_of(size), dtype=dtype, requires_grad=True)
    d = torch.tensor(upstream_of(size), dtype=dtype)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return run(x)

    def both() -> torch.Tensor:
        x.grad = None
        module.zero_grad()
        run(x).backward(d)
        return x.grad

    return kind, forward, both


def layers(cell: str, size: Size) -> nn.Module:
    if len(set(size.units)) > 1:
        raise ValueError(f"layers of one size are compared; received units={size.units}")
    return getattr(nn, cell)(size.inputs, size.units[0], len(size.units), batch_first=True)


def whole(cell: str, size: Size, precision: str) -> tuple:
    """Sequences without reset, by cuDNN where there is a GPU."""
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    module = layers(cell, size)
    kind = "cuDNN" if torch.cuda.is_available() else "CPU"
    return calls(module, lambda x: module(x)[0], size, DTYPES[precision], kind)


def plain_loop(cell: str, size: Size) -> tuple:
    """One step after the other, as recurrent agents are usually trained (CleanRL, 2022)."""
    module = layers(cell, size)
    keep = 1.0 - torch.tensor(resets_of(size), dtype=torch.float32)
    keeps = keep[..., None].unbind(1)

    def run(x: torch.Tensor) -> torch.Tensor:
        shape = (len(size.units), size.batch, size.units[0])
        state = [x.new_zeros(shape) for _ in range(2 if cell == "LSTM" else 1)]
        outputs = []
        for step, kept in zip(x.split(1, dim=1), keeps):
            state = [s * kept for s in state]
            y, state = module(step, tuple(state) if cell == "LSTM" else state[0])
            state = state if cell == "LSTM" else [state]
            outputs.append(y)
        return torch.cat(outputs, dim=1)

    return calls(module, run, size, torch.float32, "loop")


def torchrl(cell: str, size: Size, backend: str) -> tuple:
    """TorchRL's module, which knows `is_init`; its backends are its own names."""
    from tensordict import TensorDict
    from torchrl import modules

    states = ["h", "c"] if cell == "LSTM" else ["h"]
    module = getattr(modules, f"{cell}Module")(
        size.inputs,
        size.units[0],
        len(size.units),
        in_keys=["x", *states, "is_init"],
        out_keys=["y", *[("next", name) for name in states]],
        recurrent_backend=backend,
        default_recurrent_mode=True,
    )
    shape = (size.batch, size.steps, len(size.units), size.units[0])
    fixed = {name: torch.zeros(shape) for name in states}
    fixed["is_init"] = torch.tensor(resets_of(size))[..., None]

    def run(x: torch.Tensor) -> torch.Tensor:
        return module(TensorDict({"x": x, **fixed}, batch_size=x.shape[:2]))["y"]

    return calls(module, run, size, torch.float32, backend)


def contestants(cells: list[str], tiny: bool) -> Iterator[tuple]:
    """`(names, size, make)` of all on whole sequences."""
    for cell, precision in itertools.product(cells, DTYPES):
        for name, size in sizes(tiny).items():
            make = functools.partial(whole, cell, size, precision)
            yield (cell, name, precision, "PyTorch"), size, make


def with_resets(cells: list[str], tiny: bool) -> Iterator[tuple]:
    """The same of all on sequences with resets inside; those that compile longest come last."""
    for backend in (None, "pad", "triton", "scan"):
        for cell, (name, size) in itertools.product(cells, sizes(tiny, resets=True).items()):
            make = functools.partial(plain_loop, cell, size)
            if backend:
                make = functools.partial(torchrl, cell, size, backend)
            label = f"TorchRL, {backend}" if backend else "PyTorch, plain loop"
            yield (cell, name, "TF32", label), size, make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cells", nargs="+", choices=["LSTM", "GRU"])
    parser.add_argument("--resets", action="store_true")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    device = torch.device(torch_device(args.tiny))
    heading(*COLUMNS)
    for names, size, make in (with_resets if args.resets else contestants)(args.cells, args.tiny):
        make = functools.partial(on, device, make)
        measured(names, size, make, wait, 0.01 if args.tiny else 0.4)
    row("PyTorch", torch.__version__, f"cuDNN {torch.backends.cudnn.version()}", *["-"] * 6)


if __name__ == "__main__":
    main()
