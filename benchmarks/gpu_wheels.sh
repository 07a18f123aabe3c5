#!/usr/bin/env bash
# Fetches the Python packages that a GPU machine without network may lack into benchmarks/wheels,
# for CPython 3.12 on Linux x86-64: 15 MB. benchmarks/gpu.sh installs what is missing there.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p benchmarks/wheels
rm -f benchmarks/wheels/*.whl

keras=(keras optree namex h5py absl-py rich markdown-it-py mdurl pygments ml-dtypes packaging)
# TorchRL for PyTorch 2.11, and what it needs.
torchrl=(torchrl==0.14.1 tensordict==0.14.3 hoptorch orjson pyvers cloudpickle importlib_metadata zipp)

wanted=$(sed -n 's/^ *"\(keras[<>=].*\)",$/\1/p' pyproject.toml)
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --implementation cp --python-version 3.12 \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest benchmarks/wheels "$wanted" "${keras[@]:1}" "${torchrl[@]}"
du -sh benchmarks/wheels
