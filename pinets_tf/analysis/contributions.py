"""What each order of a polynomial network adds to its outputs."""

import itertools
import math

import keras
from keras import ops

from pinets_tf.analysis.degree import Degrees
from pinets_tf.analysis.homogeneous_parts import HomogeneousParts
from pinets_tf.analysis.model_graph import in_order, input_shapes
from pinets_tf.analysis.reading import as_outputs, check_graph


def contributions(model, z, *, max_order=None):
    """Returns what each order of a polynomial network adds to its outputs at inference.

        model(z) = f_0 + f_1(z) + ... + f_N(z),    f_n(c z) = c^n f_n(z)

    The parts f_n are carried through the network side by side: an affine map acts on each of them and adds its constant
    to f_0, a sum adds them order by order, a product multiplies each with each. So they are exact up to the rounding of
    the types that the model computes in: nothing is fitted. For the pictures of a float32 network that is enough; make
    the model of float64 layers where high orders cancel.

    Args:
        model: a built Keras layer, functional or sequential model that is a polynomial at inference.
        z: its inputs, as it is called with them.
        max_order: `None` for all orders, or the last order that is computed, from 0. The higher ones, whose number can
            be thousands in a deep network, are then left out: together they are model(z) minus the sum of the others.

    Returns:
        A NumPy array (order + 1, batch, ...), whose sum over the first axis is model(z) where all orders are computed;
        for a model of several outputs one for each, in the structure of the outputs. The order is the degree of the
        output, or `max_order` where that is smaller.

    Raises:
        NotPolynomial: if a layer is no polynomial or not known, or quantised, or known by its degree alone.
        ValueError: if `model` is not built or not functional, if there are more or fewer inputs than it takes, or if
            `max_order` is not a number from 0.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.analysis import contributions
    >>> from pinets_tf.layers import NCP
    >>> layer = NCP(units=10, order=3, rank=64)
    >>> layer.build((None, 784))
    >>> parts = contributions(layer, np.ones((2, 784), "float32"))
    >>> parts.shape, np.allclose(parts.sum(0), layer(np.ones((2, 784), "float32")), atol=1e-4)
    ((4, 2, 10), True)

    Source: Eq. 2 of Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020; the parts of a network, ours.
    """
    check_polynomial(model, z)
    highest = highest_order("max_order", math.inf if max_order is None else max_order)

    def parts(tensors):
        on = HomogeneousParts(ops.shape(tensors[0])[0], highest)
        outputs = on.outputs(model, [on.start(x) for x in tensors])
        return [ops.stack(on.full(output)) for output in outputs]

    return as_outputs(model, computed_by(model, parts)(as_inputs(model, z)))


class _DegreesOfTerms(Degrees):
    """The same, where all terms must follow."""

    by_degree = HomogeneousParts.by_degree
    unknown = HomogeneousParts.unknown


class _Computation(keras.layers.Layer):
    """A function of tensors that uses the weights of a model."""

    def __init__(self, model, function):
        super().__init__(autocast=False)
        self.model = model
        self.function = function

    def call(self, tensors):
        return self.function(tensors)


def computed_by(model, function):
    """Returns `function`, from a list of tensors to a list of tensors with the layers of a model, for NumPy results.

    On JAX, where each operation for itself would be compiled for each new shape, it is compiled as a whole.
    """

    def compute(tensors):
        return [ops.convert_to_numpy(x) for x in function(tensors)]

    def compute_as_one(tensors):
        shapes = tuple(tuple(x.shape) for x in tensors)
        if shapes not in networks:
            inputs = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in tensors]
            networks[shapes] = keras.Model(inputs, _Computation(model, function)(inputs))
        return keras.tree.flatten(networks[shapes].predict_on_batch(tensors))

    networks: dict = {}
    return compute_as_one if keras.backend.backend() == "jax" else compute


def check_polynomial(model, z=None):
    """Raises an error if the terms of a model cannot be computed, or if `z` are not as many inputs as it takes."""
    shapes = input_shapes(model) if isinstance(model, keras.layers.Layer) and model.built else []
    if not shapes:
        raise ValueError(
            "The terms of a polynomial are those of a network with its weights. Received: "
            f"{model!r}, which is not a Keras layer, or was not built for an input. Pass a model that was built."
        )
    if z is not None and len(in_order(model, z)) != len(shapes):
        raise ValueError(
            f"A network is called with as many inputs as it takes. Received: {len(in_order(model, z))} inputs for "
            f"{model.name}, which takes {len(shapes)}. Pass one array for each input."
        )
    check_graph(model)
    _DegreesOfTerms().outputs(model, [1] * len(shapes))


def as_inputs(model, z):
    """Returns inputs as tensors of the types in which a model takes them, in a flat list."""
    given = getattr(model, "inputs", None)
    dtypes = [tensor.dtype for tensor in given] if given else itertools.repeat(model.compute_dtype)
    tensors = [ops.convert_to_tensor(x, dtype) for x, dtype in zip(in_order(model, z), dtypes)]
    for place, (x, shape) in enumerate(zip(tensors, input_shapes(model))):
        # As Keras does it.
        if len(x.shape) == len(shape) - 1 and shape[-1] == 1:
            tensors[place] = ops.expand_dims(x, -1)
    return tensors


def highest_order(name, order):
    if order != math.inf and (isinstance(order, bool) or not isinstance(order, int) or order < 0):
        raise ValueError(
            f"`{name}` is the last order that is computed. Received: {name}={order!r}. Pass a number from 0."
        )
    return order
