"""The project itself: public names, imports that run one way, sizes, backends that are let in."""

import ast
import inspect
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest

import rnnzoo

PACKAGE = pathlib.Path(rnnzoo.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
MODULE_LINES, FUNCTION_LINES = 250, 45

# A module imports from earlier lines only (at module level). Names on one line are level.
ORDER = [
    "_checks folders",
    "backend.processes backend.tensorflow_replicas",
    "backend.tensorflow backend.jax",
    "backend",
    "layers.recurrence",
    "layers.recurrent",
    "layers.lstm layers.gru layers.simple_rnn layers.bidirectional layers.per_step",
    "layers.stack layers",
    "metrics.weights metrics.edits curves",
    "metrics.perplexity metrics.accuracy",
    "metrics",
    "decoding.random",
    "decoding.decoded decoding.rules decoding.samplers decoding.stepper",
    "decoding.sample decoding.rows decoding.beam",
    "decoding",
    "data.epochs data.reading data.tokens data.files",
    "data.text data.lanes data.buckets data.arrays",
    "data.streams data.packing data.pairs",
    "data",
    "windows carry inputs checked stepwise generation backup.record",
    "source_target compiling feeding backup.snapshot backup.folders",
    "core streaming continuing spreading",
    "translating training",
    "model",
    "encoder decoder callbacks backup.sources backup.memory",
    "backup.run",
    "backup.callback",
    "backup",
    "divergence",
    "serving.tables serving.manifest serving.full_precision",
    "serving.signatures",
    "serving.traced",
    "serving.reading",
    "serving.loaded",
    "serving.client",
    "serving.answers serving.messages serving.limits serving.openapi",
    "serving.batching serving.seals",
    "serving.conversation",
    "serving.conversations",
    "serving",
    "serving.gate serving.watching",
    "serving.talk serving.over_http",
    "serving.saved_model serving.to_onnx serving.to_litert serving.warm_up",
    "serving.to_triton",
    "serving.formats",
    "export",
    "blueprint",
    "seq2seq",
    "one_to_one many_to_one encoder_decoder",
    "",
    "serving.service",
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names.split() or [""]}


def module_name(path):
    """'layers.lstm'; '' for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {module_name(path): path for path in FILES}


def imported(node):
    """Dotted names that an import statement may bring in, those of our modules resolved."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    names = [f"{node.module}.{alias.name}" for alias in node.names]
    ours = [n.removeprefix("rnnzoo.") in NAMES and n.startswith("rnnzoo.") for n in names]
    return [name if our else node.module for name, our in zip(names, ours)]


def at_module_level(tree):
    """Import statements that run when the module is imported."""
    stack = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stack += ast.iter_child_nodes(node)


def imports_of(path):
    nodes = list(at_module_level(ast.parse(path.read_text())))
    assert not [n for n in nodes if isinstance(n, ast.ImportFrom) and n.level], path
    return [name for node in nodes for name in imported(node)]


def own_imports_of(path):
    return sorted(
        name.removeprefix("rnnzoo").removeprefix(".")
        for name in imports_of(path)
        if name.split(".")[0] == "rnnzoo"
    )


def test_every_module_has_its_place_in_the_order():
    assert sorted(LEVEL) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_imports_run_one_way(name):
    for other in own_imports_of(NAMES[name]):
        if name == "backend" and other.startswith("backend."):
            continue  # the package of the two is the choice between them
        assert LEVEL[other] < LEVEL[name], f"{name or 'rnnzoo'} imports {other}"


def test_data_and_metrics_know_nothing_of_the_model():
    allowed = ("_checks", "data", "metrics")
    for name, path in NAMES.items():
        if name.split(".")[0] in ("data", "metrics"):
            for other in own_imports_of(path):
                assert other.split(".")[0] in allowed, f"{name} imports {other}"


def test_decoding_knows_no_model():
    allowed = ("_checks", "backend", "decoding")
    for name, path in NAMES.items():
        if name.split(".")[0] == "decoding":
            for other in own_imports_of(path):
                assert other.split(".")[0] in allowed, f"{name} imports {other}"


def test_each_backend_is_imported_by_its_own_file_only():
    for name, path in NAMES.items():
        for other in imports_of(path):
            root = other.split(".")[0]
            if root in ("tensorflow", "jax"):
                assert name.startswith(f"backend.{root}"), f"{name} imports {other} at module level"
            assert root != "torch"


@pytest.mark.parametrize("name", NAMES)
def test_modules_and_functions_are_short(name):
    text = NAMES[name].read_text()
    assert len(text.splitlines()) < MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert body_lines(node) <= FUNCTION_LINES, f"{name}.{node.name}"


def body_lines(node):
    """Lines of a function without its docstring."""
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node) is None:
        return lines
    docstring = node.body[0]
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def test_a_long_function_would_be_seen():
    source = 'def f():\n    """A\n    docstring."""\n' + "    x = 1\n" * 50
    assert body_lines(ast.parse(source).body[0]) == 51


def public(module):
    return {name: getattr(module, name) for name in module.__all__}


PUBLIC = {
    f"{module.__name__}.{name}": thing
    for module in (
        rnnzoo,
        rnnzoo.data,
        rnnzoo.decoding,
        rnnzoo.layers,
        rnnzoo.metrics,
        rnnzoo.serving,
    )
    for name, thing in public(module).items()
}
SHELLS = ("rnnzoo.RecurrentModel", "rnnzoo.EncoderDecoder")
METHODS = {
    f"{name}.{method}": function
    for name, thing in PUBLIC.items()
    if inspect.isclass(thing)
    for method, function in vars(thing).items()
    if inspect.isfunction(function) and name in SHELLS and method[0] != "_"
}


def test_all_lists_what_is_imported():
    """No name is missing from `__all__`, and none is in it that is not there."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    names = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(rnnzoo.__all__) == sorted(names)
    assert len(rnnzoo.__all__) == len(set(rnnzoo.__all__))
    for module in (rnnzoo, rnnzoo.data, rnnzoo.layers):
        assert all(hasattr(module, name) for name in module.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", rnnzoo.__version__)


def test_the_version_is_that_of_the_project_file():
    text = (PACKAGE.parent / "pyproject.toml").read_text()
    assert f'version = "{rnnzoo.__version__}"' in text


# What an override of Keras does is in Keras's documentation.
OVERRIDES = {"call", "get_config", "from_config", "build", "compute_output_spec"}


@pytest.mark.parametrize("name", [*PUBLIC, *METHODS])
def test_a_docstring_says_more_than_the_name(name):
    thing, last = (PUBLIC | METHODS)[name], name.split(".")[-1]
    if last in OVERRIDES:
        return
    docstring = inspect.getdoc(thing) if not inspect.isclass(thing) else thing.__doc__
    assert docstring, f"{name} has no docstring"
    assert said(docstring) - words(last), f"{name}: {docstring.splitlines()[0]!r}"
    assert len(said(docstring)) >= 3


def words(name):
    """The words of a name in any case, with their plural and singular."""
    parts = {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}
    return parts | {part.rstrip("s") for part in parts} | {f"{part}s" for part in parts}


def said(docstring):
    """The words of the first sentence that carry a meaning."""
    empty = {"a", "an", "the", "of", "to", "is", "this", "class", "function", "module", "returns"}
    return set(re.findall(r"[a-z]+", docstring.strip().splitlines()[0].lower())) - empty


@pytest.mark.parametrize(
    ("name", "docstring"),
    [("reset_states", "Resets the states."), ("GRU", "The GRU class."), ("export", "Export.")],
)
def test_a_restatement_would_be_seen(name, docstring):
    assert not said(docstring) - words(name) or len(said(docstring)) < 3


def run(program, backend):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )


def test_on_jax_no_tensorflow_is_imported():
    program = "import sys, rnnzoo; print(*[m for m in sys.modules if m.startswith('tensorflow')])"
    done = run(program, "jax")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_another_backend_is_refused_and_both_that_work_are_named(monkeypatch):
    """Keras needs torch to be imported on it, so here only its answer is changed."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.delitem(sys.modules, "rnnzoo.backend")
    with pytest.raises(ImportError) as raised:
        __import__("rnnzoo.backend")
    for word in ("'tensorflow'", "'jax'", "KERAS_BACKEND='torch'"):
        assert word in str(raised.value)
    assert "rnnzoo.backend" not in sys.modules
