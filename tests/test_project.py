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
from rnnzoo.layers.stack import CELLS

PACKAGE = pathlib.Path(rnnzoo.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FUNCTION_LINES = 60

# A folder imports from itself and from those before it. Single files at the top are folders too.
ORDER = [
    "_checks",
    "_files",
    "_version",
    "curves",
    "backend",
    "cells",
    "layers",
    "data",
    "metrics",
    "decoding",
    "heads",
    "core",
    "feed",
    "training",
    "generation",
    "export",
    "presets",
    "models",
    "serving",
    "zoo",
    "",  # the package itself
    "__main__",
]


def module_name(path):
    """'layers.lstm'; '' for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


NAMES = {module_name(path): path for path in FILES}


def folder(name):
    return name.split(".")[0]


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


def ours(names):
    return sorted(
        name.removeprefix("rnnzoo").removeprefix(".")
        for name in names
        if name.split(".")[0] == "rnnzoo"
    )


def own_imports_of(path):
    return ours(imports_of(path))


def hidden_imports_of(path):
    """Our own modules that are imported inside a function."""
    tree = ast.parse(path.read_text())
    shown = set(map(id, at_module_level(tree)))
    nodes = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    return ours(name for node in nodes if id(node) not in shown for name in imported(node))


def test_every_folder_has_its_place():
    assert {folder(name) for name in NAMES} <= set(ORDER)


@pytest.mark.parametrize("name", NAMES)
def test_imports_between_folders_run_one_way(name):
    for other in own_imports_of(NAMES[name]):
        assert ORDER.index(folder(other)) <= ORDER.index(folder(name)), f"{name} imports {other}"


@pytest.mark.parametrize("name", NAMES)
def test_no_import_of_ours_hides_in_a_function(name):
    assert hidden_imports_of(NAMES[name]) == []


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: own_imports_of(path) for name, path in NAMES.items()}
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path, name])
        if name in done:
            return
        path.append(name)
        for other in graph[name]:
            # A package's face hands on names; what stands in it imports from its files.
            if other != folder(name) or "." not in name:
                visit(other)
        path.pop()
        done.add(name)

    for name in graph:
        visit(name)


def test_a_module_has_a_name_of_its_own():
    """No two modules of a name that says the same, but for a package's face."""
    files = [path for path in FILES if path.name != "__init__.py"]
    allowed = {"jax.py", "tensorflow.py", "lstm.py", "gru.py", "simple_rnn.py"}  # one for each kind
    names = [path.name for path in files if path.name not in allowed]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice


def test_data_and_metrics_know_nothing_of_the_model():
    allowed = ("_checks", "backend.keras_internals", "data", "metrics")
    for name, path in NAMES.items():
        if folder(name) in ("data", "metrics"):
            for other in own_imports_of(path):
                assert other in allowed or folder(other) in allowed, f"{name} imports {other}"


def test_decoding_knows_no_model():
    allowed = ("_checks", "backend", "decoding")
    for name, path in NAMES.items():
        if folder(name) == "decoding":
            for other in own_imports_of(path):
                assert folder(other) in allowed, f"{name} imports {other}"


def test_each_backend_is_imported_by_its_own_file_only():
    for name, path in NAMES.items():
        for other in imports_of(path):
            root = other.split(".")[0]
            if root in ("tensorflow", "jax"):
                own = name.startswith(f"backend.{root}") or name == f"training.step_{root}"
                assert own, f"{name} imports {other} at module level"
            assert root != "torch"


# Modules of Keras, and attributes and methods of its objects.
INTERNALS = "backend.keras_internals"
CLASSES = (keras.Model, keras.Layer, keras.optimizers.Optimizer, keras.callbacks.Callback)
CLASSES += (keras.metrics.Metric, keras.losses.Loss, keras.utils.PyDataset, keras.Sequential)
ON_KERAS = {name for one in CLASSES for name in dir(one) if name.startswith("_")}
OF_PYTHON = {"_asdict", "_replace", "_fields"}  # of named tuples


def private_names(tree):
    """Names with an underscore in `tree` that are another's, as far as `OURS` tells."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
            yield from ("src" for name in names if name and "src" in name.split("."))
        elif isinstance(node, ast.Attribute):
            if node.attr == "src" or (is_private(node.attr) and node.attr not in OURS):
                yield node.attr
        elif isinstance(node, ast.ClassDef):
            defined = [one.name for one in node.body if isinstance(one, ast.FunctionDef)]
            yield from (name for name in defined if is_private(name) and name in ON_KERAS)
        elif isinstance(node, ast.Constant) and node.value == "_keras_mask":
            yield node.value


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in OF_PYTHON


def defined_names(tree):
    """Functions, classes and attributes that `tree` defines, modules and names that it imports."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((alias.asname or alias.name).split(".")[-1] for alias in node.names)


TREES = {name: ast.parse(path.read_text()) for name, path in NAMES.items()}
OURS = {one for name, tree in TREES.items() if name != INTERNALS for one in defined_names(tree)}


def test_private_names_of_others_are_used_by_one_file():
    found = {name: sorted(private_names(tree)) for name, tree in TREES.items()}
    assert [name for name, names in found.items() if names] == [INTERNALS], found


@pytest.mark.parametrize(
    "line",
    [
        "def f():\n    from keras.src.backend import AutocastScope",
        "import keras.src as source",
        "from keras import src",
        "keras.src.backend.AutocastScope(None)",
        "model._flatten_layers()",
        "getattr(outputs, '_keras_mask', None)",
        "class Model(keras.Model):\n    def _symbolic_build(self): ...",
    ],
)
def test_a_private_name_of_keras_would_be_seen(line):
    assert list(private_names(ast.parse(line)))


def compared_forms(tree):
    """Lines that compare something called form, or an entry "form"."""
    for node in ast.walk(tree):
        for side in [node.left, *node.comparators] if isinstance(node, ast.Compare) else ():
            name = getattr(side, "attr", getattr(side, "id", None))
            entry = getattr(getattr(side, "slice", None), "value", None)
            if "form" in (name, entry):
                yield node.lineno


def test_nothing_is_decided_by_the_name_of_a_form():
    found = {name: list(compared_forms(tree)) for name, tree in TREES.items()}
    assert not {name: lines for name, lines in found.items() if lines}
    for line in ("if spec.form == 'a': ...", "x = kept['form'] in ('a', 'b')", "form != 'a'"):
        assert list(compared_forms(ast.parse(line))) == [1]


@pytest.mark.parametrize("name", NAMES)
def test_functions_are_short(name):
    for node in ast.walk(ast.parse(NAMES[name].read_text())):
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
        rnnzoo.cells,
        rnnzoo.data,
        rnnzoo.decoding,
        rnnzoo.heads,
        rnnzoo.layers,
        rnnzoo.metrics,
        rnnzoo.serving,
        rnnzoo.zoo,
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
        for node in at_module_level(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("rnnzoo")
        for alias in node.names
    } - {"__version__"}
    assert sorted(rnnzoo.__all__) == sorted(names)
    assert len(rnnzoo.__all__) == len(set(rnnzoo.__all__))
    assert set(rnnzoo.__all__) <= set(dir(rnnzoo))
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


def told(docstring):
    """The names in the sections of arguments and of attributes, by section."""
    found, section = {"Args:": set(), "Attributes:": set()}, None
    for line in re.sub(r",\n +", ", ", inspect.cleandoc(docstring)).splitlines():
        if line and line[0] != " ":
            section = line
        entry = re.match(r" {4}(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \(.*?\))?:", line)
        if entry and section in found:
            found[section] |= {name.strip(" *") for name in entry[1].split(",") if name}
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_a_docstring_tells_of_all_arguments_and_no_others(name):
    thing = PUBLIC[name]
    if getattr(thing, "__init__", None) is keras.layers.Dense.__init__:
        return  # as there
    try:
        arguments = {
            argument.name
            for argument in inspect.signature(thing).parameters.values()
            if argument.kind is not argument.VAR_KEYWORD
        }
    except (TypeError, ValueError):
        return  # a module, or an error
    docstring = inspect.cleandoc(thing.__doc__)
    found = told(docstring)
    spans = " ".join(re.findall(r"`([^`]*)`", docstring))
    named = set(re.findall(r"\w+", spans)).union(*found.values())
    assert not arguments - named, f"{name} does not tell of {arguments - named}"
    known = {*inspect.signature(thing).parameters}
    assert not found["Args:"] - known, f"{name} has no {found['Args:'] - known}"


def test_a_cell_names_its_paper():
    for cell in CELLS.values():
        assert re.search(r"\(.*(19|20)\d\d\)", cell.__doc__), cell


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


IMPORTS = """
import sys, keras
before = set(sys.modules)
import rnnzoo
print(*sorted(name for name in set(sys.modules) - before if name.split(".")[0] not in before))
with_it = set(sys.modules)
from rnnzoo import from_preset, load_served, serving, zoo
assert "rnnzoo.serving.over_http" not in sys.modules
print(*sorted(set(sys.modules) - with_it))
try:
    rnnzoo.nothing
except AttributeError as error:
    print(error)
"""


def test_import_brings_in_what_training_needs_and_no_other_library():
    """On JAX, so no TensorFlow either; what serves and lists presets comes when it is asked for."""
    done = run(IMPORTS, "jax")
    assert done.returncode == 0, done.stderr
    first, later, refused = done.stdout.strip().splitlines()
    roots = {name.split(".")[0] for name in first.split()}
    assert roots - set(sys.stdlib_module_names) == {"rnnzoo"}
    assert "rnnzoo.training.trainer" in first.split()
    unasked = re.compile(r"rnnzoo\.(serving|zoo|curves|__main__)\b|sqlite3")
    assert [name for name in first.split() if unasked.match(name)] == []
    assert {"rnnzoo.serving.client", "rnnzoo.zoo.loading"} <= set(later.split())
    assert refused == "module 'rnnzoo' has no attribute 'nothing'"


def test_another_backend_is_refused_and_both_that_work_are_named(monkeypatch):
    """Keras needs torch to be imported on it, so here only its answer is changed."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    monkeypatch.delitem(sys.modules, "rnnzoo.backend")
    with pytest.raises(ImportError) as raised:
        __import__("rnnzoo.backend")
    for word in ("'tensorflow'", "'jax'", "KERAS_BACKEND='torch'"):
        assert word in str(raised.value)
    assert "rnnzoo.backend" not in sys.modules
