"""Which part of the project may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Who imports Keras takes its private interface from one file.
KERAS = {"keras", "numpy", "._keras"}
TENSORFLOW = {*KERAS, "tensorflow"}
# Of the layers, training needs the checks of arguments, what copies of networks take, and the fade that it moves.
OF_LAYERS = {".layers.checks", ".layers.copying", ".layers.generation.fade"}
# What a module of each part may import beside the standard library; parts of ours are named with a dot.
ALLOWED = {
    "pinets_tf/fused": TENSORFLOW,
    "pinets_tf/layers": {*KERAS, ".fused", ".layers"},
    "pinets_tf/models": {"keras", "._keras", ".layers", ".models"},
    "pinets_tf/analysis": {*KERAS, ".layers", ".analysis"},
    "pinets_tf/metrics": {*TENSORFLOW, ".layers.checks", ".files", ".metrics", ".npz"},
    "pinets_tf/mesh": {"numpy", "scipy", "trimesh", ".files", ".mesh", ".npz"},
    "pinets_tf/data": {*TENSORFLOW, "PIL", "h5py", "tensorflow_datasets", ".data", ".files", ".mesh", ".npz"},
    "pinets_tf/training": {
        *TENSORFLOW,
        "absl",
        "matplotlib",
        "sklearn",
        ".training",
        *OF_LAYERS,
        ".addresses",
        ".analysis",
        ".files",
        ".metrics",
        ".npz",
        ".script",
    },
    "pinets_tf/export": {
        *TENSORFLOW,
        "ai_edge_litert",
        "litert_quantizer",
        "tensorflow_serving",
        ".layers",
        ".models",
        ".analysis",
        ".data",
        ".export",
        ".files",
    },
    # `fashion_mnist_gan` and `client` are modules beside the one that imports them.
    "examples": {
        *TENSORFLOW,
        "absl",
        "fashion_mnist_gan",
        "matplotlib",
        "tenseal",
        ".layers",
        ".models",
        ".analysis",
        ".data",
        ".files",
        ".mesh",
        ".script",
        ".training",
    },
    "export": {
        *TENSORFLOW,
        "PIL",
        "ai_edge_litert",
        "client",
        "grpc",
        "matplotlib",
        "tensorflow_serving",
        ".",
        ".export",
        ".files",
        ".script",
    },
}
# Beside these, an extra is imported where it is used, never when a module is.
AT_THE_TOP = {"PIL", "absl", "client", "fashion_mnist_gan", "keras", "numpy", "scipy", "tensorflow"}


def imports(node):
    """Yields what is imported in and below `node`, parts of ours as `.part`."""
    for inner in ast.walk(node):
        names = []
        if isinstance(inner, ast.Import):
            names = [alias.name for alias in inner.names]
        elif isinstance(inner, ast.ImportFrom):
            names = [inner.module] if inner.module != "pinets_tf" else [f"pinets_tf.{a.name}" for a in inner.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "pinets_tf":
                yield ".".join(["", *rest]) or "."
            elif first not in sys.stdlib_module_names:
                yield first


def modules(part):
    return sorted((ROOT / part).rglob("*.py"))


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_stay_in_their_room(part):
    assert modules(part)
    for module in modules(part):
        for name in imports(ast.parse(module.read_text(encoding="utf-8"))):
            inside = name in ALLOWED[part] or any(name.startswith(room + ".") for room in ALLOWED[part] if room != ".")
            assert inside, f"{module.relative_to(ROOT)} imports {name}"


def test_extras_are_imported_where_they_are_used():
    for part in ALLOWED:
        for module in modules(part):
            for statement in ast.parse(module.read_text(encoding="utf-8")).body:
                if isinstance(statement, (ast.Import, ast.ImportFrom)):
                    heavy = {name for name in imports(statement) if not name.startswith(".")} - AT_THE_TOP
                    assert not heavy, f"{module.relative_to(ROOT)} imports {heavy} at the top"


def test_every_part_is_listed():
    found = {
        f"pinets_tf/{folder.name}" for folder in (ROOT / "pinets_tf").iterdir() if (folder / "__init__.py").exists()
    }
    assert found <= ALLOWED.keys()


def test_import_needs_keras_and_numpy_alone():
    program = """
import keras, sys
before = set(sys.modules)
import pinets_tf
new = {name.split(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names) - {"pinets_tf"}
print(sorted(new))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
