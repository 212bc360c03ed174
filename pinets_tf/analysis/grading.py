"""A polynomial network taken apart by degree: what each order adds, and the network without its higher orders."""

import functools
import itertools
import math

import keras
from keras import ops

from pinets_tf.analysis.degree import Degrees
from pinets_tf.analysis.parts import in_order, input_shapes
from pinets_tf.analysis.propagation import as_outputs, check_graph, through
from pinets_tf.analysis.rules import NotPolynomial
from pinets_tf.layers.copying import deserialize_layers


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
    highest = _highest("max_order", math.inf if max_order is None else max_order)

    def parts(tensors):
        grading = Grading(ops.shape(tensors[0])[0], highest)
        outputs = through(grading, model, [grading.start(x) for x in tensors])
        return [ops.stack(grading.full(output)) for output in outputs]

    return as_outputs(model, computed_by(model, parts)(as_inputs(model, z)))


def truncate(model, order):
    """Returns a model that computes the terms of a polynomial network up to an order, and none above.

    The terms are those of `contributions`, also in training, where batch normalisations keep the statistics they have.
    What it costs depends on `order`, about that many times the network, and not on the degree of the network.

    Args:
        model: a built Keras layer, functional or sequential model that is a polynomial at inference.
        order: the last order that is kept, from 0; 1 makes an affine map of the network.

    Returns:
        A functional Keras model of the same inputs and outputs. It holds `model`, and so shares its weights; saved and
        loaded again, where `pinets_tf.analysis` was imported, it has weights of its own.

    Raises:
        NotPolynomial: if a layer is no polynomial or not known, or quantised, or known by its degree alone.
        ValueError: if `model` is not built or not functional, or if `order` is not a number from 0.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.analysis import truncate
    >>> from pinets_tf.models import resnet
    >>> network = resnet((8, 8, 1), classes=3, stage_blocks=(1, 1), order=2, width=2, gate=False)
    >>> affine, z = truncate(network, order=1), np.ones((1, 8, 8, 1), "float32")
    >>> np.allclose(affine(2 * z) - affine(z), affine(z) - affine(0 * z), atol=1e-5)
    True

    Source: ours.
    """
    check_polynomial(model)
    truncation = Truncation(model, _highest("order", order), name=f"{model.name}_up_to_order_{order}")
    inputs = _new_inputs(model)
    return keras.Model(inputs, truncation(inputs), name=truncation.name)


@keras.saving.register_keras_serializable(package="pinets_tf")
class Truncation(keras.layers.Layer):
    """The layer that `truncate` puts a model in.

    Args:
        model: the model, a polynomial at inference.
        order: the last order that is kept.
        **kwargs: those of `keras.layers.Layer`.

    Input shape:
        That of the model.

    Output shape:
        That of the model.
    """

    def __init__(self, model, order, **kwargs):
        super().__init__(**{"dtype": model.dtype_policy, **kwargs}, autocast=False)
        self.model = model
        self.order = order

    def build(self, input_shape):
        if not self.model.built:
            self.model.build(input_shape)
        self.built = True

    def __call__(self, inputs, training=None, **kwargs):
        # Also in training: it reaches the layers inside through Keras's call context.
        return super().__call__(inputs, training=False, **kwargs)

    def call(self, inputs, training=None):
        tensors = as_inputs(self.model, inputs)
        grading = Grading(ops.shape(tensors[0])[0], self.order)
        outputs = through(grading, self.model, [grading.start(x) for x in tensors])
        return as_outputs(self.model, [functools.reduce(lambda x, y: x + y, grading.full(x)) for x in outputs])

    def get_config(self):
        return {**super().get_config(), "model": keras.saving.serialize_keras_object(self.model), "order": self.order}

    @classmethod
    def from_config(cls, config):
        return cls(**deserialize_layers(config))


class Grading:
    """The algebra of homogeneous parts: dictionaries from each degree to the part of this degree.

    Part 0 is the same for all inputs, and kept for a batch of one. The others have a batch of `rows`.

    Args:
        batch: the size of the batch.
        max_order: the highest degree that is kept.
    """

    def __init__(self, batch, max_order=math.inf):
        self.batch = batch
        self.max_order = max_order

    def rows(self, degree):
        """Returns the size of the batch of a part."""
        return self.batch

    def factor(self, part, degree, before, total):
        """Returns a part as a factor of a product of degree `total`, behind factors of degree `before` together."""
        return part

    def start(self, x):
        """Returns the value of an input."""
        value = {0: self._zeros(x, 1), 1: x}
        return {degree: part for degree, part in value.items() if degree <= self.max_order}

    def full(self, value):
        """Returns the parts in order, each with the whole batch."""
        return [self._all_rows(value[degree], degree, self.batch) for degree in range(len(value))]

    def affine(self, function, values, multiplies=True):
        # One call for all parts, for what is zero, which gives the constant, and for part 0.
        degrees = sorted(set().union(*values) - {0})
        y = function(*(self._stack_rows(value, degrees) for value in values))
        constant, parts, start = y[:1], {0: y[1:2]}, 2
        for degree in degrees:
            parts[degree] = y[start : start + self.rows(degree)] - constant
            start = start + self.rows(degree)
        return parts

    def cast(self, function, value):
        return {degree: function(part) for degree, part in value.items()}

    def add(self, values):
        degrees = sorted(set().union(*values))
        # As in Keras, whose sums of several types are of the widest one.
        dtype = keras.backend.result_type(*(value[0].dtype for value in values))
        terms = {degree: [ops.cast(value[degree], dtype) for value in values if degree in value] for degree in degrees}
        return {degree: functools.reduce(lambda x, y: x + y, added) for degree, added in terms.items()}

    def multiply(self, function, values):
        parts: dict = {}
        for degrees in itertools.product(*values):
            total = sum(degrees)
            if total > self.max_order:
                continue
            factors = [
                self._factor(value[degree], degree, sum(degrees[:place]), total)
                for place, (value, degree) in enumerate(zip(values, degrees))
            ]
            term = function(*factors)
            parts[total] = parts[total] + term if total in parts else term
        return parts

    def constant(self, function, values):
        return {0: function(*(value[0] for value in values))}

    def by_degree(self, layer, rule, values):
        raise NotPolynomial(
            "The terms of a polynomial follow from linear maps, sums and products. Received: the layer "
            f"{layer.name} of type {type(layer).__name__}, of which only the degree is known. Make it of such layers, "
            "or register it as 'linear', 'sum' or 'product' where it is one of these."
        )

    def unknown(self, layer, error, values):
        raise error

    def _factor(self, part, degree, before, total):
        if degree == 0:
            return part if total == 0 else self._all_rows(part, 0, self.rows(total))
        return self.factor(part, degree, before, total)

    def _all_rows(self, part, degree, rows):
        return ops.broadcast_to(part, (rows, *ops.shape(part)[1:])) if degree == 0 else part

    def _stack_rows(self, value, degrees):
        parts = [value[d] if d in value else self._zeros(value[0], self.rows(d)) for d in degrees]
        return ops.concatenate([self._zeros(value[0], 1), value[0], *parts])

    def _zeros(self, x, rows):
        return ops.zeros((rows, *ops.shape(x)[1:]), dtype=x.dtype)


class _DegreesOfTerms(Degrees):
    """That of degrees, where all terms must follow."""

    by_degree = Grading.by_degree
    unknown = Grading.unknown


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
    through(_DegreesOfTerms(), model, [1] * len(shapes))


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


def _new_inputs(model):
    if getattr(model, "inputs", None):
        structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        return keras.tree.map_structure(
            lambda x: keras.Input(batch_shape=x.shape, dtype=x.dtype, name=x.name), structure
        )
    inputs = [keras.Input(shape[1:], dtype=model.compute_dtype) for shape in input_shapes(model)]
    return inputs if len(inputs) > 1 else inputs[0]


def _highest(name, order):
    if order != math.inf and (isinstance(order, bool) or not isinstance(order, int) or order < 0):
        raise ValueError(
            f"`{name}` is the last order that is computed. Received: {name}={order!r}. Pass a number from 0."
        )
    return order
