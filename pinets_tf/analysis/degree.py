"""The polynomial degree of a model, from its graph, or the layer for which it has none."""

import inspect

import keras

from pinets_tf import _keras
from pinets_tf.analysis.kinds import NotPolynomial, kind_of
from pinets_tf.analysis.model_graph import input_shapes, paths
from pinets_tf.analysis.reading import Reading, as_outputs, check_graph


def degree(model):
    """Returns the polynomial degree of a model's outputs in its inputs at inference, read off its graph.

    Affine layers keep the degree, sums take the larger one, products add, the layers of `pinets_tf` multiply it with
    their order. The degree is that of generic weights: special values, such as gates that are still zero, can lower it.
    `register_layer` makes layers of your own known.

    Args:
        model: a functional or sequential Keras model, or a layer.

    Returns:
        An integer; 1 for a linear model. `None` if the output is no polynomial, or not known to be one: then
        `first_not_polynomial` names the layer. For a model of several outputs one for each, in the structure of the
        outputs.

    Raises:
        ValueError: if a model is not functional, or if a layer of several inputs was never called.

    Example:

    >>> from pinets_tf.analysis import degree, first_not_polynomial
    >>> from pinets_tf.models import resnet
    >>> options = {"classes": 10, "stage_blocks": (2, 2, 2, 2), "width": 4}
    >>> degree(resnet((32, 32, 3), order=3, **options)) == 3**8
    True
    >>> degree(resnet((32, 32, 3), activation="relu", **options)) is None
    True
    """
    return as_outputs(model, [None if isinstance(x, keras.Operation) else x for x in _degrees(model)])


def first_not_polynomial(model):
    """Returns the path of the first layer, in the order of computation, that makes an output of a model no polynomial.

    Args:
        model: as for `degree`.

    Returns:
        A path within the model, such as `"stage_1_block_1/branch/activation"`, or `None` if the output is a polynomial.
        For a model of several outputs one for each, in the structure of the outputs.

    Raises:
        ValueError: as for `degree`.

    Example:

    >>> import keras
    >>> from pinets_tf.analysis import first_not_polynomial
    >>> from pinets_tf.layers import NCP
    >>> z = keras.Input((4,))
    >>> scores = NCP(3, order=2, rank=4)(z)
    >>> first_not_polynomial(keras.Model(z, {"scores": scores, "shares": keras.layers.Softmax(name="softmax")(scores)}))
    {'scores': None, 'shares': 'softmax'}

    Source: ours.
    """
    where = paths(model)
    found = [where.get(id(x), x.name) if isinstance(x, keras.Operation) else None for x in _degrees(model)]
    return as_outputs(model, found)


def in_the_way(model):
    """Returns all layers that make a model of a graph no polynomial, in the order of computation."""
    collected = _Collected()
    collected.outputs(model, [1] * len(model.inputs))
    return list(collected.layers.values())


def _degrees(model):
    check_graph(model)
    return Degrees().outputs(model, [1] * number_of_inputs(model))


def number_of_inputs(layer):
    """Returns how many inputs a layer or model takes, or raises a `ValueError` where it is not known."""
    if not isinstance(layer, keras.layers.Layer):
        return len(_keras.inbound_nodes(layer)[0].input_tensors)
    return len(input_shapes(layer)) or _number_of_arguments(layer)


def _number_of_arguments(layer):
    """Returns how many inputs a layer takes that was never called, or raises a `ValueError` where it is not known."""
    try:
        kind = kind_of(layer)
    except NotPolynomial:
        return 1
    if kind == "polynomial":
        return len(inspect.signature(layer.recursion).parameters) - 1
    try:
        if callable(kind):
            inspect.signature(kind).bind(1)
    except TypeError:
        kind = "product"
    if kind == "product":
        raise ValueError(
            "The degree of a layer of several inputs follows from theirs. "
            f"Received: {layer.name} of type {type(layer).__name__}, which was never called. Call it once, or pass a "
            "model that it is part of."
        )
    return 1


class Degrees(Reading):
    """Of which degree is it in the inputs?

    A value is a number, or the first layer for which there is none.
    """

    def affine(self, function, *values, multiplies=True):
        return _unless_unknown(max, values)

    def cast(self, function, value):
        return value

    def add(self, *values):
        return _unless_unknown(max, values)

    def product(self, function, *values):
        return _unless_unknown(sum, values)

    def constant(self, function, *values):
        return 0

    def by_degree(self, layer, rule, *values):
        return _unless_unknown(lambda degrees: rule(*degrees), values)

    def unknown(self, layer, error, function, *values):
        return _unless_unknown(lambda _: getattr(layer, "part_of", layer), values)


class _Collected(Degrees):
    """The same, which goes on behind what is not known, and keeps these layers by their identity."""

    def __init__(self):
        super().__init__()
        self.layers = {}

    def unknown(self, layer, error, function, *values):
        self.layers[id(layer)] = layer
        return max(values)


def _unless_unknown(function, values):
    return next((x for x in values if isinstance(x, keras.Operation)), None) or function(values)
