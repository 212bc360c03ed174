"""One walk through the graph of a model and the recursions of polynomial layers, for whatever is known of its tensors.

What a value is, and what becomes of it, an `Algebra` says: for degrees of tensors, for their homogeneous parts, or for
the multiplications that lead to them.
"""

import functools
from typing import Any, Protocol

import keras
from keras import ops

from pinets_tf.analysis.parts import has_graph, in_order
from pinets_tf.analysis.rules import NotPolynomial, check_call, kind_of, multiplies
from pinets_tf.layers import NCP, Injection, PolynomialResidual, PooledProduct, ProdPoly, SpiralPolynomial
from pinets_tf.layers.polynomial.decomposition import Polynomial
from pinets_tf.layers.polynomial.horner import HornerLayer


class Algebra(Protocol):
    """What becomes of values; the functions are those of tensors, and called only where values hold tensors."""

    def affine(self, function, values, multiplies=True) -> Any:
        """Returns the value of an affine function of all values together.

        `multiplies` is false where it moves, copies, adds or leaves out numbers, and multiplies none.
        """

    def cast(self, function, value) -> Any:
        """Returns the value of a function that changes the type of numbers alone."""

    def add(self, values) -> Any:
        """Returns the value of a sum."""

    def multiply(self, function, values) -> Any:
        """Returns the value of a function that is linear in each value alone."""

    def constant(self, function, values) -> Any:
        """Returns the value of a function that has the same result for all values."""

    def by_degree(self, layer, rule, values) -> Any:
        """Returns the value of a layer of which only the degree is known, from those of its inputs."""

    def unknown(self, layer, error, values) -> Any:
        """Returns the value of a layer that is not known to be a polynomial, as the `NotPolynomial` says, or raises."""


def through(algebra, layer, values, function=None, node=None):
    """Returns the values of the outputs of a layer, operation or model, in a flat list.

    Args:
        algebra: an `Algebra`.
        layer: a Keras layer, operation or model.
        values: those of its inputs, in a flat list.
        function: what it computes from tensors of its inputs; by default a call with them.
        node: where in a graph it is called; by default where it was first.
    """
    try:
        if has_graph(layer):
            if node is not None:
                check_call(layer, node)
            if isinstance(layer, keras.Sequential):
                return functools.reduce(lambda so_far, part: through(algebra, part, so_far), layer.layers, values)
            return _through_graph(algebra, layer, values)
        kind = kind_of(layer, node)
    except NotPolynomial as error:
        return [algebra.unknown(layer, error, values)]
    if kind == "polynomial":
        # As Keras does it around a call.
        policy = layer.dtype_policy
        values = [algebra.cast(lambda x: policy.convert_input(x, layer.autocast, layer.input_dtype), x) for x in values]
        y = _recursion_of(layer)(algebra, layer, *values)
        return [_narrow(algebra, layer, y) if isinstance(layer, HornerLayer) else y]
    if isinstance(kind, int):
        return [_power(algebra, values[0], kind)]
    function = function or (lambda *tensors: layer(tensors[0] if len(tensors) == 1 else list(tensors)))
    if kind in ("linear", "sum"):
        return [algebra.affine(function, values, multiplies(layer))]
    if kind == "product":
        return [algebra.multiply(function, values)]
    if kind == "constant":
        return [algebra.constant(function, values)]
    return [algebra.by_degree(layer, kind, values)]


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


def _through_graph(algebra, model, values):
    known = {id(tensor): value for tensor, value in zip(model.inputs, values)}
    # A stack and not a recursion, which would end at the depth of 1000 calls.
    todo = list(reversed(model.outputs))
    while todo:
        tensor = todo.pop()
        if id(tensor) in known:
            continue
        operation, number, _ = tensor._keras_history
        node = operation._inbound_nodes[number]
        missing = [source for source in sources_of(node) if id(source) not in known]
        if missing:
            todo += [tensor, *reversed(missing)]
            continue
        given = [known[id(source)] for source in sources_of(node)]
        call = functools.partial(_call, operation, node)
        if len(node.output_tensors) == 1 or isinstance(operation, keras.Model):
            results = through(algebra, operation, given, call, node)
        else:
            functions = [_one_of(call, place) for place in range(len(node.output_tensors))]
            results = [through(algebra, operation, given, function, node)[0] for function in functions]
        # Of a model that is not known there is one value for all outputs.
        results = results * len(node.output_tensors) if len(results) == 1 else results
        known |= {id(output): result for output, result in zip(node.output_tensors, results)}
    return [known[id(tensor)] for tensor in model.outputs]


def sources_of(node):
    """Returns the symbolic tensors that a node of a graph is called with, for a model in the order of its inputs.

    Those of a mask are none of them.
    """
    if not has_graph(node.operation):
        masks = set(map(id, keras.tree.flatten(node.arguments.kwargs.get("mask"))))
        return [x for x in node.input_tensors if id(x) not in masks]
    args, kwargs = node.arguments.args, node.arguments.kwargs
    given = in_order(node.operation, args[0] if args else kwargs.get("inputs"))
    return given if all(isinstance(x, keras.KerasTensor) for x in given) else node.input_tensors


def _call(operation, node, *tensors):
    """Calls an operation as it is called in a graph, with other tensors."""
    left = iter(tensors)
    arguments = (node.arguments.args, node.arguments.kwargs)
    args, kwargs = keras.tree.map_structure(lambda x: next(left) if isinstance(x, keras.KerasTensor) else x, arguments)
    return operation(*args, **kwargs)


def _one_of(function, place):
    return lambda *tensors: keras.tree.flatten(function(*tensors))[place]


def _power(algebra, value, n):
    """Returns the value of an n-th power, by the fewest products one after another."""
    if n == 1:
        return value
    half = _power(algebra, value, n // 2)
    return algebra.multiply(ops.multiply, [half, half if n % 2 == 0 else _power(algebra, value, n - n // 2)])


def _one(algebra, layer, value):
    return through(algebra, layer, [value])[0]


def _recursion_of(layer):
    return next(_RECURSIONS[layer_class] for layer_class in type(layer).__mro__ if layer_class in _RECURSIONS)


def _prod_poly(algebra, layer, z):
    return functools.reduce(functools.partial(_through_one, algebra), layer.polynomials, z)


def _through_one(algebra, value, layer):
    return _one(algebra, layer, value)


def _polynomial(algebra, layer, z):
    x = _one(algebra, layer.factors[0], z)
    if isinstance(layer, NCP):
        x = algebra.affine(lambda x: ops.multiply(x, layer._b(1)), [x])
    for n in range(2, layer.order + 1):
        factor = _one(algebra, layer.factors[n - 1], z)
        x = _step(algebra, layer, n, factor, _state(algebra, layer, n, x), _carry(algebra, layer, n, x))
    return x if layer.C is None else algebra.affine(lambda x: layer._on_channels(layer.C, x), [x])


def _state(algebra, layer, n, x):
    if not isinstance(layer, NCP):
        return x

    def gated_with_b(Sx):
        gate = layer.gates[n - 2] if layer.GATES_THE_STATE else None
        return ops.add(Sx if gate is None else ops.multiply(Sx, gate), layer._b(n))

    gated = layer.GATES_THE_STATE and _has_gate(layer, n)
    return algebra.affine(gated_with_b, [_one(algebra, layer.S[n - 2], x)], gated)


def _carry(algebra, layer, n, x):
    if getattr(layer, "learn_skip", False):
        return algebra.affine(lambda x: layer._on_channels(layer.V[n - 2], x), [x])
    return x if layer.CARRIES else None


def _residual(algebra, layer, z):
    s = z if layer.shortcut is None else _one(algebra, layer.shortcut, z)
    x = Cz = _one(algebra, layer.branch, z)
    if layer.order == 1:
        return algebra.add([s, Cz])
    As = s if layer.factor is None else _one(algebra, layer.factor, s)
    for n in range(2, layer.order + 1):
        x = _step(algebra, layer, n, As, x, carry=Cz, skip=s if n == layer.order else None)
    return x


def _pooled_product(algebra, layer, z):
    def at_every_position(factor, x):
        return ops.multiply(ops.expand_dims(factor, layer._positions(x.shape)), x)

    x = z
    pooled = algebra.affine(lambda z: layer._mean(z, layer._positions(z.shape), None), [z])
    for n in range(2, layer.order + 1):
        factor = _gated(algebra, layer, n, _one(algebra, layer.factors[n - 2], pooled))
        x = _step(algebra, layer, n, factor, x, carry=x, product=at_every_position)
    return x


def _injection(algebra, layer, x, z):
    def thin(linear_map):
        linear_map = linear_map if layer.built else layer.factor
        # The factor that is made by default is a Dense layer.
        return z if linear_map is None else _one(algebra, linear_map, z)

    y = _step(
        algebra,
        layer,
        2,
        thin(layer.A),
        x,
        carry=x if layer.skip else None,
        product=lambda factor, x: ops.multiply(layer._at_every_position(factor, x), x),
    )
    if not layer.offset:
        return y
    offset = thin(layer.B)
    return algebra.affine(lambda y, offset: y + layer._at_every_position(offset, y), [y, offset], multiplies=False)


def _spiral_polynomial(algebra, layer, z):
    def mapped(letter, number, x, of_steps=False):
        def convolved(x):
            x = layer._for_maps(x) if of_steps else x
            kernel = ops.cast(getattr(layer, letter)[number], layer.compute_dtype)
            return layer._for_steps(layer._maps(x, [kernel])[0])

        return algebra.affine(convolved, [x])

    def finished(x):
        bias = layer._bias_of(layer.order)
        x = layer._for_maps(x if bias is None else ops.add(x, bias))
        return ops.take(x, layer.keep, axis=1) if "keep" in layer._tables and not layer._one_look else x

    simple = layer.variant == "simple" or layer.order == 1
    x = h = mapped("S", 0, z)
    for n in range(2, layer.order + 1):
        factor = h if simple else mapped("A", n - 2, z)
        state = x if simple or n == 2 else mapped("S", n - 2, x, of_steps=True)
        before = [x] if layer.residual and (simple or n > 2) else []
        if layer.normalize_at == "order":
            x = _step(algebra, layer, n, factor, state, carry=algebra.add([factor, *before]))
        else:
            x = _step(algebra, layer, n, factor, state, carry=before[0] if before else None, skip=factor)
    return algebra.affine(finished, [x], multiplies=False)


_RECURSIONS = {
    Injection: _injection,
    Polynomial: _polynomial,
    PolynomialResidual: _residual,
    PooledProduct: _pooled_product,
    ProdPoly: _prod_poly,
    SpiralPolynomial: _spiral_polynomial,
}


def _step(algebra, layer, n, factor, state, carry=None, skip=None, product=ops.multiply):
    """Follows `HornerLayer._step`."""
    if n - 1 > layer.computed_products:
        x = state if carry is None else carry
        return x if skip is None else algebra.add([x, skip])
    wide = "float32" if layer.compute_dtype == "float16" else layer.compute_dtype
    x = algebra.multiply(lambda *factors: product(*(ops.cast(x, wide) for x in factors)), [factor, state])
    if layer.normalize_at != "order":
        x = _normalized(algebra, layer, n, x)
    if not layer.GATES_THE_STATE:
        x = _gated(algebra, layer, n, x)
    if carry is not None:
        x = algebra.add([x, carry])
    if layer.normalize_at == "order":
        x = _normalized(algebra, layer, n, x)
    return _narrow(algebra, layer, x if skip is None else algebra.add([x, skip]))


def _narrow(algebra, layer, x):
    """Rounds what was computed with weights, or in float32, to the type in which a layer computes."""
    return algebra.cast(lambda x: ops.cast(x, layer.compute_dtype), x)


def _gated(algebra, layer, n, x):
    def gated(x):
        gate = layer.gates[n - 2]
        return x if gate is None else ops.multiply(x, gate)

    return algebra.affine(gated, [x], _has_gate(layer, n)) if layer.gate else x


def _has_gate(layer, n):
    """Returns whether step n multiplies with a gate that is not part of its normalisation."""
    return layer.built and layer.gates[n - 2] is not None


def _normalized(algebra, layer, n, x):
    """Follows what normalises the product of step n; a layer that is not built has only what is copied for it."""
    normalize = layer.normalize
    if normalize is None or (layer.normalize_at == "last" and n < layer.order):
        return x
    normalizer: Any = layer.normalizers[n - 2] if layer.built else None
    if isinstance(normalize, keras.layers.Layer):
        return _one(algebra, normalize if normalizer is None else normalizer, x)
    if normalize not in ("batch", "affine", "offset"):
        error = NotPolynomial(
            f"A polynomial is made of linear maps, sums and products. Received: the layer {layer.name} with "
            f"normalize={normalize!r}. Use normalize='batch', which is linear at inference."
        )
        return algebra.unknown(layer if normalizer is None else normalizer, error, [x])
    return algebra.affine(lambda x: normalizer(x), [x], normalize != "offset")
