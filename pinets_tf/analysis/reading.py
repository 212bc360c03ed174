"""The base of the interpreters that read layers and whole models."""

import keras
from keras import ops

from pinets_tf.analysis.kinds import NotPolynomial, check_call, kind_of, multiplies
from pinets_tf.analysis.model_graph import ModelGraph, has_graph
from pinets_tf.layers.polynomial.interpreter import Interpreter


class Reading(Interpreter):
    """Reads a layer by what it is, a model by its graph, and what states its recursion by that.

    A subclass says what becomes of values in the words of `Interpreter`, but for `apply`, and in those below.
    """

    def __init__(self):
        self._graphs = {}

    def constant(self, function, *values):
        """Returns the value of a function that has the same result for all values."""
        raise NotImplementedError

    def by_degree(self, layer, rule, *values):
        """Returns the value of a layer of which only the degree is known, from those of its inputs."""
        raise NotImplementedError

    def unknown(self, layer, error, function, *values):
        """Returns the value of a layer that is not known to be a polynomial, as a `NotPolynomial` says, or raises."""
        raise NotImplementedError

    def power(self, value, n):
        """Returns the value of an n-th power, by the fewest products one after another."""
        if n == 1:
            return value
        half = self.power(value, n // 2)
        return self.product(ops.multiply, half, half if n % 2 == 0 else self.power(value, n - n // 2))

    def apply(self, layer, *values):
        return self.outputs(layer, values)[0]

    def outputs(self, layer, values, call=None):
        """Returns the values of the outputs of a layer, operation or model, in a flat list.

        Args:
            layer: a Keras layer, operation or model.
            values: those of its inputs, in a flat list.
            call: the `Node` of a graph where it is called; by default a call with the values alone.
        """
        function = call.call if call else lambda *tensors: layer(tensors[0] if len(tensors) == 1 else list(tensors))
        number = len(call.outputs) if call else 1
        if number > 1 and not isinstance(layer, keras.Model):
            functions = (_one_of(function, place) for place in range(number))
            return [self._read(layer, values, one, call)[0] for one in functions]
        results = self._read(layer, values, function, call)
        # Of a model that is not known there is one value for all outputs.
        return results * number if len(results) == 1 else results

    def _read(self, layer, values, function, call):
        node = call and call.node
        try:
            if has_graph(layer):
                if node is not None:
                    check_call(layer, node)
                return self.through(layer, values)
            kind = kind_of(layer, node)
        except NotPolynomial as error:
            return [self.unknown(layer, error, function, *values)]
        if kind == "polynomial":
            return self.recursive(layer, *values)
        if isinstance(kind, int):
            return [self.power(values[0], kind)]
        if kind in ("linear", "sum"):
            return [self.affine(function, *values, multiplies=multiplies(layer))]
        if kind == "product":
            return [self.operation(layer, call, function, *values)]
        if kind == "constant":
            return [self.constant(function, *values)]
        return [self.by_degree(layer, kind, *values)]

    def operation(self, layer, call, function, *values):
        """Returns the value of a layer or operation that is a product."""
        return self.product(function, *values)

    def recursive(self, layer, *values):
        """Returns the values of the outputs of a layer that states its recursion."""
        policy = layer.dtype_policy
        # As Keras does it around a call.
        cast = [self.cast(lambda x: policy.convert_input(x, layer.autocast, layer.input_dtype), x) for x in values]
        return [layer.recursion(self, *cast)]

    def through(self, model, values):
        """Returns the values of the outputs of a model, by its graph."""
        graph = self.graph_of(model)
        known = dict(zip(graph.inputs, values))
        for _ in self.calls(graph, known):
            pass
        return [known[key] for key in graph.outputs]

    def graph_of(self, model):
        """Returns the `ModelGraph` of a model, which is made once."""
        if id(model) not in self._graphs:
            self._graphs[id(model)] = ModelGraph.of(model)
        return self._graphs[id(model)]

    def calls(self, graph, known):
        """Yields each `Node` of a graph with the values of its inputs and outputs, which are added to those known."""
        for call in graph.nodes:
            given = [known[key] for key in call.sources]
            results = self.outputs(call.operation, given, call)
            known.update(zip(call.outputs, results))
            yield call, given, results


def as_outputs(model, values):
    """Returns a flat list with something of each output of a layer or model in the structure of these outputs."""
    if getattr(model, "outputs", None) and not isinstance(model, keras.Sequential):
        return keras.tree.pack_sequence_as(model.output, values)
    return values[0]


def check_graph(model):
    """Raises a `ValueError` for a model that has no graph to walk through and is not known as a layer."""
    if isinstance(model, keras.Model) and not has_graph(model):
        try:
            kind_of(model)
        except NotPolynomial:
            raise ValueError(
                "The polynomial is read off the graph of a functional or sequential model. "
                f"Received: {model.name}, which is not functional. Pass keras.Model(inputs, outputs)."
            ) from None


def _one_of(function, place):
    return lambda *tensors: keras.tree.flatten(function(*tensors))[place]
