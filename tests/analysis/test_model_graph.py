"""The graph of a model as a value: its calls in order, without those of masks, and the models in it."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from pinets_tf.analysis import collapse_affine, contributions, degree, polynomial_summary, without_products
from pinets_tf.analysis.degree import Degrees
from pinets_tf.analysis.model_graph import ModelGraph, has_graph, in_order, paths, sources_of
from pinets_tf.layers import CCP
from tests.conformance.cases import numpy

RNG = np.random.default_rng(0)


def names(graph):
    return [node.operation.name for node in graph.nodes]


def computed(graph, *values):
    """Returns what the nodes of a graph compute one after another, and asserts that each has what it takes."""
    known = dict(zip(graph.inputs, values, strict=True))
    for node in graph.nodes:
        given = [known[key] for key in node.sources]
        outputs = keras.tree.flatten(node.call(*given))
        assert len(outputs) == len(node.outputs) and known.keys().isdisjoint(node.outputs)
        known.update(zip(node.outputs, outputs, strict=True))
    return [numpy(known[key]) for key in graph.outputs]


def assert_computes_the_same(model, *values):
    graph = ModelGraph.of(model)
    expected = model(list(values) if len(values) > 1 else values[0])
    for found, output in zip(computed(graph, *values), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(found, numpy(output), rtol=1e-6, atol=1e-6)
    return graph


def batch(*shape):
    return RNG.normal(size=(3, *shape)).astype("float32")


def test_nodes_stand_behind_what_they_take():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    left, right = layers.Dense(4, name="left")(a), layers.Dense(4, name="right")(b)
    late = layers.Add(name="late")([left, a])
    both = layers.Concatenate(name="both")([right, late])
    graph = assert_computes_the_same(keras.Model([b, a], [both, left]), batch(4), batch(4))
    assert sorted(names(graph)) == ["both", "late", "left", "right"]
    assert names(graph).index("left") < names(graph).index("late") < names(graph).index("both")
    assert graph.inputs == (id(b), id(a)) and graph.outputs == (id(both), id(left))
    (node,) = (node for node in graph.nodes if node.operation.name == "both")
    # In the order of the call.
    assert node.sources == (id(right), id(late)) and node.outputs == (id(both),)


def test_what_no_output_needs_is_left_out():
    z = keras.Input((4,))
    used, unused = layers.Dense(4, name="used")(z), layers.Dense(4, name="unused")(z)
    assert names(ModelGraph.of(keras.Model(z, used))) == ["used"]
    assert names(ModelGraph.of(keras.Model(z, unused))) == ["unused"]
    passing = ModelGraph.of(keras.Model(z, [z, used]))
    assert passing.outputs == (passing.inputs[0], id(used)) and names(passing) == ["used"]


def test_several_outputs_of_a_node_and_arrays_among_its_arguments():
    z = keras.Input((4,))
    first, second = ops.split(z, 2, axis=1)
    table = np.arange(6.0, dtype="float32").reshape(2, 3)
    graph = assert_computes_the_same(keras.Model(z, ops.matmul(second, table)), batch(4))
    assert [len(node.outputs) for node in graph.nodes] == [2, 1]
    assert graph.nodes[1].sources == (id(second),) and id(first) in graph.nodes[0].outputs
    subtracted = keras.Model(z, ops.subtract(np.ones((1, 2), "float32"), second))
    assert_computes_the_same(subtracted, batch(4))


def test_nodes_of_masks_are_left_out():
    z = keras.Input((5, 3))
    masked = layers.Masking(name="masking")(z)
    both = layers.Add(name="sum")([masked, layers.Dense(3, name="dense")(masked)])
    model = keras.Model(z, layers.GlobalAveragePooling1D(name="pool")(both))
    graph = ModelGraph.of(model)
    assert names(graph) == ["masking", "dense", "sum", "pool"]
    # Keras has nodes that compute masks; what is called with one has it among its arguments, and not in its sources.
    pool = graph.nodes[-1]
    assert len(pool.node.input_tensors) > len(pool.sources) == 1
    assert sources_of(pool.node) == [both]

    x, mask = keras.Input((5, 3), name="x"), keras.Input((5,), name="mask")
    asked = keras.Model([x, mask], layers.GlobalAveragePooling1D(name="pool")(x, mask=mask))
    (node,) = ModelGraph.of(asked).nodes
    assert node.sources == (id(x),) and len(ModelGraph.of(asked).inputs) == 2


def test_a_layer_that_is_called_twice_has_two_nodes():
    shared = layers.Dense(4, name="shared")
    a, b = keras.Input((4,)), keras.Input((4,))
    first = shared(a)
    graph = assert_computes_the_same(keras.Model([a, b], [shared(shared(a) + b), first]), batch(4), batch(4))
    calls = [node for node in graph.nodes if node.operation is shared]
    # `shared(a)` was called twice.
    assert len(calls) == 3 and len({node.outputs for node in calls}) == 3
    # What another model calls is none of its nodes.
    other = ModelGraph.of(keras.Model(b, shared(b)))
    assert len(other.nodes) == 1 and other.nodes[0].sources == (id(b),)


def test_a_sequential_model_is_a_chain():
    parts = [layers.Dense(4, name="first"), layers.Dropout(0.5, name="second"), layers.Dense(2, name="third")]
    model = keras.Sequential([keras.Input((3,)), *parts])
    graph = assert_computes_the_same(model, batch(3))
    assert names(graph) == ["first", "second", "third"]
    assert (graph.inputs, graph.outputs) == ((0,), (3,))
    assert [(node.sources, node.outputs) for node in graph.nodes] == [((0,), (1,)), ((1,), (2,)), ((2,), (3,))]
    assert all(node.node is None for node in graph.nodes)
    # Also before it is built, and of one layer that stands in it twice.
    assert len(ModelGraph.of(keras.Sequential(parts)).nodes) == 3
    shared = layers.Dense(3)
    twice = keras.Sequential([keras.Input((3,)), shared, layers.ReLU(), shared])
    assert len(assert_computes_the_same(twice, batch(3)).nodes) == 3
    assert has_graph(model) and has_graph(keras.Sequential(parts))


def different_powers():
    """Returns a model of inputs by name, each with another degree."""
    given = {name: keras.Input((4,), name=name) for name in ("one", "two", "three")}
    powers = {"one": given["one"], "two": given["two"] ** 2, "three": given["three"] ** 3}
    return keras.Model(given, layers.Concatenate()([powers["one"], powers["two"], powers["three"]]), name="powers")


@pytest.mark.parametrize("order", [("one", "two", "three"), ("three", "one", "two"), ("two", "three", "one")])
def test_a_nested_model_gets_its_inputs_by_name(order):
    inner, z = different_powers(), keras.Input((4,))
    w = layers.Dense(4, name="w")(z)
    sources = {"one": z * z * z * z, "two": w, "three": z}
    model = keras.Model(z, inner({name: sources[name] for name in order}))
    (call,) = (node for node in ModelGraph.of(model).nodes if node.operation is inner)
    # In the order of the inputs of the model.
    by_input = {id(sources[x.name]): x.name for x in inner.inputs}
    assert [by_input[key] for key in call.sources] == [x.name for x in inner.inputs]
    assert in_order(inner, {name: sources[name] for name in order}) == [sources[x.name] for x in inner.inputs]
    assert degree(model) == 4
    x = batch(4)
    np.testing.assert_allclose(contributions(model, x).sum(0), numpy(model(x)), rtol=1e-4, atol=1e-5)
    for copy in (collapse_affine(model), without_products(model, 6)):
        np.testing.assert_allclose(numpy(copy(x)), numpy(model(x)), rtol=1e-5, atol=1e-5)
    assert polynomial_summary(model).rows[-1].degree == 4


@pytest.mark.parametrize("order", [("b", "a"), ("a", "b")])
def test_a_nested_model_of_a_list_gets_its_inputs_by_the_names_of_these(order):
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    inner = keras.Model([b, a], a * a * a + b)
    z = keras.Input((4,))
    given = {"a": z, "b": z * z}
    model = keras.Model(z, inner({name: given[name] for name in order}))
    assert degree(model) == 3
    x = batch(4)
    np.testing.assert_allclose(contributions(model, x).sum(0), numpy(model(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(model(x)), x**3 + x**2, rtol=1e-4, atol=1e-5)


def test_nested_models_keep_their_own_graphs():
    inner = keras.Sequential([keras.Input((4,)), CCP(4, 2, rank=3, name="ccp")], name="inner")
    z = keras.Input((4,))
    outer = keras.Model(z, inner(inner(z)), name="outer")
    assert names(ModelGraph.of(outer)) == ["inner", "inner"]
    assert names(ModelGraph.of(inner)) == ["ccp"]
    assert_computes_the_same(outer, batch(4))
    assert paths(outer)[id(inner.layers[0])] == "inner/ccp"
    reading = Degrees()
    assert reading.graph_of(inner) is reading.graph_of(inner) and degree(outer) == 4


class Bent(keras.Model):
    def call(self, inputs, training=None, mask=None):
        return ops.relu(super().call(inputs))


def test_a_model_whose_call_is_another_has_no_graph():
    z = keras.Input((4,))
    y = layers.Dense(4)(z)
    assert has_graph(keras.Model(z, y)) and not has_graph(Bent(z, y)) and not has_graph(layers.Dense(4))
    assert names(ModelGraph.of(keras.Model(z, Bent(z, y, name="bent")(z)))) == ["bent"]
