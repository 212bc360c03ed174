"""The interpreter of costs: multiplications, and the memory of what is computed."""

import collections
import dataclasses
import math
import re

import keras

from pinets_tf import _keras
from pinets_tf.analysis.kinds import WITHOUT_MULTIPLICATION, stated_by_class
from pinets_tf.analysis.model_graph import has_graph
from pinets_tf.analysis.operations import MOVES, SUMS, power_of
from pinets_tf.analysis.reading import Reading


class Costs(Reading):
    """What does a sample take?  A value is a symbolic tensor of a batch of one; costs are added up on the way.

    Attributes:
        multiply_adds, products: how many there are, or `None` where that is unknown.
        activation_bytes: the size of what is computed.
    """

    def __init__(self):
        super().__init__()
        self.multiply_adds = self.products = 0
        self.activation_bytes = 0

    def _read(self, layer, values, function, call):
        if has_graph(layer) or (_said_by(layer) is None and stated_by_class(layer) == "polynomial"):
            return super()._read(layer, values, function, call)
        outputs = keras.tree.flatten(_keras.output_spec(function, *values))
        given = list(values)
        if call and not isinstance(layer, keras.layers.Layer):
            # Also the arrays that it is called with.
            given = [x for x in keras.tree.flatten(call.arguments(values)) if hasattr(x, "shape")]
        self._count(_multiplications(Call(layer, given, outputs)))
        if not isinstance(layer, _HANDING_ON):
            self._keep(*outputs)
        return outputs

    def _count(self, multiplications):
        for name, number in zip(("multiply_adds", "products"), multiplications or (None, None)):
            so_far = getattr(self, name)
            setattr(self, name, None if None in (so_far, number) else so_far + number)

    def _keep(self, *tensors):
        self.activation_bytes += sum(_size(x) * _bytes(x.dtype) for x in tensors)

    def affine(self, function, *values, multiplies=True):
        return _keras.output_spec(function, *values)

    def cast(self, function, value):
        return _keras.output_spec(function, value)

    def add(self, *values):
        return values[0]

    def product(self, function, *values):
        y = _keras.output_spec(function, *values)
        self._count((0, _size(y) * (len(values) - 1)))
        return y

    def scale(self, weight, value):
        y = super().scale(weight, value)
        self._count((0, _size(y)))
        self._keep(y)
        return y

    def step(self, step, factor, state, **added):
        before = self.activation_bytes
        y = super().step(step, factor, state, **added)
        # All that it computes may be one operation.
        self.activation_bytes = before
        self._keep(y)
        return y

    def maps(self, function, value, kernels, multiply_adds):
        maps = _keras.output_spec(lambda x: function(x, kernels), value)
        self._count((len(kernels) * multiply_adds(value.shape), 0))
        self._keep(*maps)
        return maps


@dataclasses.dataclass(frozen=True)
class Call:
    """A layer or operation, and the symbolic tensors that it is called with and returns."""

    layer: keras.Operation
    inputs: list
    outputs: list

    @property
    def x(self):
        return self.inputs[0]

    @property
    def y(self):
        return self.outputs[0]


def _size(x):
    return math.prod(x.shape)


def _bytes(dtype):
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) // 8 if bits else 1


def _multiplications(call):
    """Returns the multiply-adds and products of a call, or `None` if they are unknown."""
    layer = call.layer
    said = _said_by(layer)
    if said is not None:
        shapes = [x.shape for x in call.inputs]
        number = said(shapes[0] if len(shapes) == 1 else shapes)
        return number if number is None or isinstance(number, tuple) else (int(number), 0)
    if not isinstance(layer, keras.layers.Layer):
        of_keras = type(layer).__module__.startswith("keras.")
        rule = _OPERATIONS.get(type(layer).__name__) if of_keras else None
        return rule and rule(call)
    if stated_by_class(layer) == "wrapper":
        return _multiplications(dataclasses.replace(call, layer=layer.layer))
    for layer_class in type(layer).__mro__:
        if layer_class in _RULES:
            return _RULES[layer_class](call)
        if "call" in vars(layer_class):
            # It may do anything else than the class that it is derived from.
            return None
    return None


def _said_by(layer):
    """Returns the method by which a layer says what it takes, unless it computes something else than its class."""
    for layer_class in type(layer).__mro__:
        if "multiply_adds" in vars(layer_class):
            return layer.multiply_adds
        if not vars(layer_class).get("multiplies", True):
            return lambda shape: 0
        if "call" in vars(layer_class):
            return None
    return None


def _none(call):
    return 0, 0


def _each(number):
    """Returns a rule for layers that multiply each number of their output as often."""
    return lambda call: (0, number * _size(call.y))


def _dense(call):
    return call.x.shape[-1] * _size(call.y), 0


def _einsum_dense(call):
    labels, outputs = call.layer.equation.replace(" ", "").split(",")[1].split("->")
    summed = [size for label, size in zip(labels, call.layer.kernel.shape) if label not in outputs]
    return _size(call.y) * math.prod(summed), 0


def _channels(layer, x):
    return x.shape[1 if layer.data_format == "channels_first" else -1]


def _convolution(call):
    layer = call.layer
    return _size(call.y) * math.prod(layer.kernel_size) * _channels(layer, call.x) // layer.groups, 0


def _transposed_convolution(call):
    return _size(call.x) * math.prod(call.layer.kernel_size) * call.layer.filters, 0


def _depthwise_convolution(call):
    return _size(call.y) * math.prod(call.layer.kernel_size), 0


def _separable_convolution(call):
    layer = call.layer
    between = _channels(layer, call.x) * layer.depth_multiplier
    positions = _size(call.y) // layer.filters
    return positions * between * math.prod(layer.kernel_size) + _size(call.y) * between, 0


def _dot(call):
    axes = call.layer.axes
    return _size(call.y) * call.x.shape[axes if isinstance(axes, int) else axes[0]], 0


def _matmul(call):
    return _size(call.y) * call.x.shape[-1], 0


def _einsum(call):
    """Counts the multiply-adds of two tensors; those of more depend on the order in which they are multiplied."""
    operands = call.layer.subscripts.partition("->")[0].split(",")
    if len(operands) != len(call.inputs) or len(operands) > 2:
        return None
    sizes: dict = collections.defaultdict(int)
    for labels, x in zip(operands, call.inputs):
        first, _, last = labels.partition("...")
        # The axes of an ellipsis are aligned at the last one.
        for label, size in zip([*first, *range(len(first + last) - len(x.shape), 0), *last], x.shape):
            sizes[label] = max(sizes[label], size)
    return math.prod(sizes.values()) if len(operands) == 2 else 0, 0


def _power(call):
    n = power_of(call.layer, _keras.inbound_nodes(call.layer)[0])
    return None if n is None else (0, (n - 1) * _size(call.y))


def _product(call):
    return 0, _size(call.y) * (len(call.inputs) - 1)


# What they return is what they get, at inference, or the same numbers in another shape.
_HANDING_ON = (
    keras.layers.ActivityRegularization,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.Reshape,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
# Of the functions in `keras.ops`, by the names of their operations, which Keras does not export.
_OPERATIONS = {
    **dict.fromkeys(
        (
            *MOVES,
            *SUMS,
            "Abs",
            "AveragePool",
            "Max",
            "Maximum",
            "Mean",
            "Min",
            "Minimum",
            "Relu",
            "Relu6",
            "Sigmoid",
            "Softmax",
            "Tanh",
        ),
        _none,
    ),
    **dict.fromkeys(("Divide", "Multiply", "Square", "TrueDivide"), _each(1)),
    "Einsum": _einsum,
    "Matmul": _matmul,
    "Power": _power,
}
_RULES: dict = {
    **dict.fromkeys(
        (
            *WITHOUT_MULTIPLICATION,
            keras.layers.AveragePooling1D,
            keras.layers.AveragePooling2D,
            keras.layers.AveragePooling3D,
            keras.layers.ELU,
            keras.layers.Embedding,
            keras.layers.GlobalAveragePooling1D,
            keras.layers.GlobalAveragePooling2D,
            keras.layers.GlobalAveragePooling3D,
            keras.layers.GlobalMaxPooling1D,
            keras.layers.GlobalMaxPooling2D,
            keras.layers.GlobalMaxPooling3D,
            keras.layers.LeakyReLU,
            keras.layers.Masking,
            keras.layers.MaxPooling1D,
            keras.layers.MaxPooling2D,
            keras.layers.MaxPooling3D,
            keras.layers.Maximum,
            keras.layers.Minimum,
            keras.layers.PReLU,
            keras.layers.ReLU,
            keras.layers.Softmax,
        ),
        _none,
    ),
    **dict.fromkeys(
        (
            keras.layers.Average,
            keras.layers.BatchNormalization,
            keras.layers.Normalization,
            keras.layers.Rescaling,
        ),
        _each(1),
    ),
    **dict.fromkeys(
        (
            keras.layers.GroupNormalization,
            keras.layers.UnitNormalization,
        ),
        _each(2),
    ),
    # As Keras computes it: a square, and three with the inverse deviation that is multiplied with gamma first, or one
    # where there is no gamma.
    keras.layers.LayerNormalization: lambda call: _each(4 if call.layer.scale else 2)(call),
    keras.layers.RMSNormalization: _each(3),
    **dict.fromkeys((keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D), _convolution),
    **dict.fromkeys(
        (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose),
        _transposed_convolution,
    ),
    **dict.fromkeys((keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D), _depthwise_convolution),
    **dict.fromkeys((keras.layers.SeparableConv1D, keras.layers.SeparableConv2D), _separable_convolution),
    keras.layers.Dense: _dense,
    keras.layers.Dot: _dot,
    keras.layers.EinsumDense: _einsum_dense,
    keras.layers.Multiply: _product,
    keras.layers.UpSampling2D: lambda call: (0, 0) if call.layer.interpolation == "nearest" else None,
}
