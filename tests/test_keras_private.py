"""What the package takes of Keras's private interface is what it is taken for, and taken in one file."""

import ast
import functools
import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from pinets_tf import _keras
from tests.conformance.cases import tensorflow_only

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("pinets_tf", "examples", "export", "benchmarks")
# Names that classes of ours have, and others of Keras as well.
NOT_OF_KERAS = {
    "_metrics": "of a callback, and not of a model",
    "_model": "of an extractor of features, and not of a callback",
    "_name": "of graphs of TFLite",
    "_path": "of files",
}


class Tree(keras.layers.Layer):
    """A layer with weights of its own and layers inside, of which one stands in two places."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(3)
        self.several = [keras.Sequential([keras.layers.Dense(3), keras.layers.Dropout(0.5)]), self.first]
        self.dropout = keras.layers.Dropout(0.5)
        self.generator = keras.random.SeedGenerator(1)

    def build(self, input_shape):
        self.fixed = self.add_weight(shape=(2,), trainable=False, name="fixed")
        self.learned = self.add_weight(shape=(3,), name="learned")
        self.as_stored = self.add_weight(shape=(3,), autocast=False, name="as_stored")
        for layer in (self.first, self.several[0]):
            layer.build(input_shape)

    def call(self, x):
        return self.several[0](self.first(x)) * self.learned


@pytest.fixture
def tree():
    layer = Tree()
    layer.build((None, 3))
    return layer


@pytest.fixture
def model():
    """A graph in which a layer is called twice, and an operation and a layer return several tensors."""
    one, other = keras.Input((4,), name="one"), keras.Input((4,), name="other")
    shared = keras.layers.Dense(4, name="shared")
    left, right = ops.split(shared(one) + shared(other), 2, axis=1)
    states = keras.layers.LSTM(2, return_state=True, name="states")(ops.expand_dims(right, 1))
    return keras.Model([one, other], [left, *states])


def same(found, expected):
    """Whether two lists hold the same objects in one order."""
    return list(map(id, found)) == list(map(id, expected))


def test_flatten_layers(tree, model):
    inner = tree.several[0]
    everything = _keras.flatten_layers(tree)
    assert everything[0] is tree and len(everything) == len(set(map(id, everything)))
    assert {id(layer) for layer in everything} >= {id(layer) for layer in (*_keras.own_layers(tree), *inner.layers)}
    assert same(_keras.flatten_layers(tree, include_self=False), everything[1:])
    # What is in a layer stands right after it.
    place = everything.index(inner)
    assert set(map(id, inner.layers)) <= set(map(id, everything[place : everything.index(tree.dropout)]))


def test_own_layers(tree, model):
    assert same(_keras.own_layers(tree), [tree.first, tree.several[0], tree.dropout])
    assert same(_keras.own_layers(model), model.layers)


def test_inbound_nodes(model):
    once, twice = (_keras.inbound_nodes(model.get_layer(name)) for name in ("states", "shared"))
    assert [node.input_tensors[0] is x for node, x in zip(twice, model.inputs, strict=True)] == [True, True]
    assert all(node.operation is model.get_layer("shared") for node in twice)
    (node,) = once
    assert same(node.input_tensors, [model.get_layer("states").input])
    assert same(node.output_tensors, model.get_layer("states").output)
    assert _keras.inbound_nodes(keras.layers.Dense(3)) == []


def test_history(model):
    for tensor in model.outputs:
        operation, node, output = _keras.history(tensor)
        assert node.operation is operation and node.output_tensors[output] is tensor
    assert [_keras.history(tensor).output for tensor in model.outputs] == [0, 0, 1, 2]
    assert _keras.history(model.outputs[1]).operation is model.get_layer("states")
    # The second call of a layer is another node than the first.
    shared = _keras.inbound_nodes(model.get_layer("shared"))
    assert [_keras.history(node.output_tensors[0]).node is node for node in shared] == [True, True]
    assert _keras.history(model.inputs[0]).node.is_input


def test_nodes_in_order(model):
    nodes = _keras.nodes_in_order(model)
    assert {id(node.operation) for node in nodes} == set(map(id, model.operations))
    assert len(nodes) == len(model.operations) + 1  # One layer is called twice.
    made: set = set()
    for node in nodes:
        assert node.is_input or {id(tensor) for tensor in node.input_tensors} <= made
        made |= {id(tensor) for tensor in node.output_tensors}
    assert made >= {id(tensor) for tensor in model.outputs}


def test_own_variables(tree):
    own = _keras.own_variables(tree)
    assert same(own, [tree.learned, tree.as_stored, tree.fixed])
    inside = {id(weight) for layer in (tree.first, tree.several[0]) for weight in layer.weights}
    assert {id(weight) for weight in tree.weights} - inside == {id(weight) for weight in own}
    tree.trainable = False
    assert same(_keras.own_variables(tree), own)
    assert _keras.own_variables(ops.split) == []


def test_seed_generators(tree):
    assert same(_keras.seed_generators(tree), [tree.generator])
    assert same(_keras.seed_generators(tree.dropout), [tree.dropout.seed_generator])
    assert any(tree.generator.state is variable for variable in tree.variables)


def test_stored_values_and_those_that_are_cast():
    seen = {}

    class Noting(Tree):
        def call(self, x):
            for weight in (self.learned, self.as_stored, self.fixed):
                read = keras.backend.standardize_dtype(weight.value.dtype)
                stored = keras.backend.standardize_dtype(_keras.stored_value(weight).dtype)
                seen[weight.name] = (read, stored, _keras.is_cast(weight))
            return x

    layer = Noting(dtype="mixed_float16")
    layer.build((None, 3))
    _keras.never_cast(layer.fixed)
    layer(np.ones((1, 3)))
    assert seen == {
        "learned": ("float16", "float32", True),
        "as_stored": ("float32", "float32", False),
        "fixed": ("float32", "float32", False),
    }
    layer.learned.assign([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(ops.convert_to_numpy(_keras.stored_value(layer.learned)), [1, 2, 3])


@tensorflow_only
def test_tracked_parts_are_in_checkpoints(tmp_path):
    import tensorflow as tf

    layer = keras.layers.Layer()
    variable, dense = keras.Variable([1.0, 2.0]), keras.layers.Dense(3)
    dense.build((None, 2))
    _keras.track(layer, keras.Variable([0.0]), "number")
    _keras.track(layer, variable, "number")
    _keras.track(layer, dense, "map")
    path = tf.train.Checkpoint(layer=layer).save(tmp_path / "checkpoint")
    saved = {name for name, _ in tf.train.list_variables(path)}
    assert any(name.startswith("layer/map/_kernel") for name in saved)
    values = [tf.train.load_variable(path, name) for name in saved if name.startswith("layer/number/")]
    np.testing.assert_array_equal(values, [[1, 2]])


def test_track_leaves_what_keras_knows(tree):
    layers, weights = _keras.flatten_layers(tree), tree.weights
    _keras.track(tree, tree.several[0], "several_0")
    assert same(_keras.flatten_layers(tree), layers) and same(tree.weights, weights)


def test_has_weight_decay():
    kernel, bias = keras.Variable([1.0], name="kernel"), keras.Variable([1.0], name="bias")
    optimizer = keras.optimizers.SGD(learning_rate=0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay([bias])
    optimizer.build([kernel, bias])
    assert [_keras.has_weight_decay(optimizer, variable) for variable in (kernel, bias)] == [True, False]
    optimizer.apply([ops.zeros(1), ops.zeros(1)])
    assert float(kernel[0]) < 1.0 and float(bias[0]) == 1.0


def test_variable_index():
    variables = [keras.Variable([0.0]), keras.Variable([0.0])]
    optimizer = keras.optimizers.SGD(learning_rate=1.0, momentum=0.5)
    optimizer.build(variables)
    assert [_keras.variable_index(optimizer, variable) for variable in variables] == [0, 1]
    optimizer.apply([ops.ones(1), 2 * ops.ones(1)])
    moments = [optimizer.momentums[_keras.variable_index(optimizer, variable)] for variable in variables]
    assert [float(moment[0]) for moment in moments] == [-1.0, -2.0]


@functools.cache
def private_names_of_keras():
    """Returns the private attributes of Keras's layers, models, tensors, nodes, variables and optimizers."""
    tensor = keras.Input((1,))
    made_by = [tensor, _keras.history(tensor).node, keras.Model(tensor, tensor), keras.Sequential()]
    classes = {*map(type, made_by), keras.layers.Layer, keras.Variable, keras.optimizers.Adam, keras.callbacks.Callback}
    bases = {base for cls in classes for base in cls.__mro__ if base.__module__.startswith("keras.")}
    sources = [Path(file).read_text(encoding="utf-8") for file in {inspect.getsourcefile(base) for base in bases}]
    names = {name for cls in classes for name in dir(cls)}
    names |= {name for source in sources for name in re.findall(r"\bself\.(_\w+)", source)}
    return {name for name in names if is_private(name)}


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def is_self(node):
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def defined(tree):
    """Yields the attributes that the classes of a file define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                targets = [*getattr(statement, "targets", ()), getattr(statement, "target", None)]
                yield from (target.id for target in targets if isinstance(target, ast.Name))
                yield from [statement.name] if isinstance(statement, ast.FunctionDef) else []
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            yield node.attr


def touched(tree):
    """Yields the private names that a file reads or sets in objects, also by `getattr`, and Keras's private modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield "keras.src" if ast.unparse(node) == "keras.src" else node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "delattr"):
            yield from (x.value for x in node.args[1:2] if isinstance(x, ast.Constant))
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [getattr(node, "module", None) or "", *(name.name for name in node.names)]
            yield from ("keras.src" for module in modules if f"{module}.".startswith("keras.src."))


def private_uses(files):
    """Returns, by file, the private names that are Keras's, or that no class of ours defines."""
    trees = {file: ast.parse(source) for file, source in files.items()}
    ours = {name for tree in trees.values() for name in defined(tree)}
    of_keras = private_names_of_keras() - NOT_OF_KERAS.keys()
    found = {}
    for file, tree in trees.items():
        names = {name for name in (*touched(tree), *defined(tree)) if is_private(name) or name == "keras.src"}
        found[file] = {name for name in names if name in of_keras or name not in ours}
    return {file: names for file, names in found.items() if names}


def test_one_file_touches_what_is_private():
    paths = [path for part in PARTS for path in (ROOT / part).rglob("*.py")]
    files = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}
    assert "_flatten_layers" in files.pop("pinets_tf/_keras.py")
    assert len(files) > 100 and private_uses(files) == {}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("layer._flatten_layers()", "_flatten_layers"),
        ("self._layers", "_layers"),
        ("variable._autocast = False", "_autocast"),
        ("class Layer:\n    def _track_variable(self): ...", "_track_variable"),
        ("class Layer:\n    def f(self):\n        self._trainable_variables = []", "_trainable_variables"),
        ("getattr(layer, '_track_trackable', None)", "_track_trackable"),
        ("tensor._of_nobody", "_of_nobody"),
        ("import keras.src.ops", "keras.src"),
        ("from keras.src import ops", "keras.src"),
        ("keras.src.ops.add", "keras.src"),
    ],
)
def test_private_uses_are_found(source, name):
    assert private_uses({"file": source}) == {"file": {name}}


def test_own_private_names_are_allowed():
    assert private_uses({"file": "class A:\n    def _own(self):\n        return self._own", "other": "a._own"}) == {}
