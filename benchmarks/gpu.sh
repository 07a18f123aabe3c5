#!/usr/bin/env bash
# All that only a GPU can answer, in one call of at most 9 minutes.
#
#   bash benchmarks/gpu.sh          on a machine with a GPU, JAX and PyTorch
#   bash benchmarks/gpu.sh --tiny   a dry run on a CPU: every program, on sizes that take no time
#
# Figures are appended to benchmarks/GPU.md as they come (to GPU.md in the folder $OUT where that is
# set; a dry run without it writes to benchmarks/results), and what the programs say to gpu.log
# beside. Each part has its time; what it leaves over goes to the parts after it, and a part that
# runs over is cut. Python is $PYTHON. COMMIT names the commit where there is no repository.
set -uo pipefail
cd "$(dirname "$0")/.."

tiny=""
case "${1:-}" in
    --tiny) tiny=--tiny ;;
    "") ;;
    *) echo "gpu.sh takes --tiny or nothing; received: $1" >&2; exit 2 ;;
esac

if [ -z "$tiny" ] && ! nvidia-smi -L > /dev/null 2>&1; then
    echo "gpu.sh needs a GPU, and nvidia-smi finds none; --tiny makes a dry run on the CPU" >&2
    exit 2
fi

python=${PYTHON:-python3}
folder=${OUT:-benchmarks${tiny:+/results}}
mkdir -p "$folder"
export RESULTS="$(cd "$folder" && pwd)/GPU.md"
log="$(dirname "$RESULTS")/gpu.log"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$log"

# Packages that are missing here come from benchmarks/wheels, into a folder of their own.
missing=$("$python" - <<'PY'
import importlib.util

names = "keras optree namex h5py absl rich markdown_it mdurl pygments ml_dtypes packaging"
names += " torchrl tensordict hoptorch orjson pyvers cloudpickle importlib_metadata zipp"
print(*[name for name in names.split() if importlib.util.find_spec(name) is None])
PY
)
wheels=()
for name in $missing; do
    case $name in absl) name=absl_py ;; markdown_it) name=markdown_it_py ;; esac
    for wheel in benchmarks/wheels/"$name"-*.whl; do
        [ -e "$wheel" ] && wheels+=("$wheel")
    done
done
if [ "${#wheels[@]}" -gt 0 ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check \
        --target "$work/site" "${wheels[@]}" >> "$log" 2>&1
fi

export PYTHONPATH="$PWD:$work/site${PYTHONPATH:+:$PYTHONPATH}"
export KERAS_BACKEND=jax KERAS_HOME="$work" TF_CPP_MIN_LOG_LEVEL=2 PYTHONWARNINGS=ignore
# A second call on the same machine begins with what the first one compiled.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-${TMPDIR:-/tmp}/rnnzoo-gpu-programs}
if [ -n "$tiny" ]; then export JAX_PLATFORMS=cpu; else export JAX_PLATFORMS=cuda,cpu; fi

say() { printf '%s\n' "$@" | tee -a "$RESULTS"; }

card=$([ -n "$tiny" ] && echo "no card: a dry run on the CPU, the figures mean nothing" ||
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader)
commit=${COMMIT:-$(git rev-parse --short HEAD 2> /dev/null || echo unknown)}
versions=$("$python" -c '
from importlib import metadata, util
names = ("jax", "keras", "torch", "torchrl", "numpy")
print(*[f"{name} {metadata.version(name)}" for name in names if util.find_spec(name)], sep=", ")')
say "" "# $(date -u +%F\ %H:%M) UTC, $card, commit $commit"
say "" "$versions"

due=0
failed=0
times=$([ -n "$tiny" ] && echo 8 || echo 1)

# part SECONDS TITLE COMMAND...: one program, which ends when its time and what was left are over.
# Time counts from the begin of this script, so that all of them take 525 s at most. A dry run has
# eight times as long, since the machine may be busy with other things.
part() {
    due=$((due + $1 * times))
    local left=$((due - SECONDS)) title=$2 code
    shift 2
    say "" "## $title"
    if [ "$left" -lt 1 ]; then
        say "" "Left out: the time is over."
        failed=1
        return
    fi
    local begin=$SECONDS said
    said=$(wc -l < "$log")
    timeout --kill-after=5 "$left" "$@" > /dev/null 2>> "$log"
    code=$?
    if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then
        say "" "Cut after $((SECONDS - begin)) s."
        failed=1
    elif tail -n "+$((said + 1))" "$log" | grep -q "^ModuleNotFoundError: No module named 'torch'"; then
        say "" "PyTorch is not installed."
    elif [ "$code" -ne 0 ]; then
        say "" "Ended with code $code: $(tail -n 1 "$log")"
        failed=1
    fi
}

gpu() { echo "$python" -m "benchmarks.gpu.$1" "${@:2}" $tiny; }
loops=--xla_gpu_enable_command_buffer=+WHILE

part 95 "1. Right: the GPU against the CPU, JAX" $(gpu right)
part 20 "2. LSTM layers, PyTorch" $(gpu pytorch LSTM)
part 115 "2. LSTM layers, JAX" $(gpu layers LSTM)
part 20 "2. LSTM, loops as CUDA graphs" \
    env XLA_FLAGS="$loops ${XLA_FLAGS:-}" $(gpu layers LSTM --note graphs)
part 20 "2. LSTM, loops as CUDA graphs, unrolled in them" \
    env XLA_FLAGS="$loops --xla_gpu_command_buffer_unroll_loops=true ${XLA_FLAGS:-}" \
    $(gpu layers LSTM --note unrolled-graphs)
part 20 "3. GRU layers, PyTorch" $(gpu pytorch GRU)
part 60 "3. GRU layers, JAX" $(gpu layers GRU)
part 30 "3. Resets in 1 % of steps, PyTorch and TorchRL" $(gpu pytorch GRU LSTM --resets)
part 40 "3. Resets in 1 % of steps, and padding, JAX" $(gpu layers GRU LSTM --flags)
part 40 "4. Training, rnnzoo" $(gpu training rnnzoo)
part 20 "4. Training, PyTorch" $(gpu training torch)
part 30 "5. Steps and generation, rnnzoo" $(gpu stepping rnnzoo)
part 15 "5. Steps and generation, PyTorch" $(gpu stepping torch)

say "" "Done in $SECONDS s, $([ "$failed" -eq 0 ] && echo "all parts" ||
    echo "not all parts: see above, and gpu.log")."
exit "$failed"
