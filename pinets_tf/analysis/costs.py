"""What a call of a layer costs: its multiplications, and the memory of what it computes."""

import dataclasses
import math
from typing import NamedTuple

import keras

from pinets_tf.analysis.operations import MOVES, SUMS
from pinets_tf.analysis.rules import WITHOUT_MULTIPLICATION
from pinets_tf.analysis.tracing import nodes
from pinets_tf.layers import (
    NCP,
    BatchNormalization,
    FeaStConv,
    GATConv,
    GMMConv,
    Injection,
    PolynomialResidual,
    PooledProduct,
    ProdPoly,
    SpiralConv,
    SpiralPolynomial,
    VertexResample,
    VertexStandardization,
)
from pinets_tf.layers.generation.fade import Fade
from pinets_tf.layers.generation.kernel_wrapper import KernelWrapper
from pinets_tf.layers.generation.learned_constant import LearnedConstant
from pinets_tf.layers.generation.minibatch_deviation import MinibatchDeviation
from pinets_tf.layers.generation.style_mixing import StyleMixing
from pinets_tf.layers.normalization.batch_normalization import ProductAffine, ProductBatchNormalization
from pinets_tf.layers.polynomial.decomposition import Polynomial


class Cost(NamedTuple):
    """Multiply-adds and products, or `None` if they are unknown, and the size of what is computed."""

    multiplications: tuple[int, int] | None
    activation_bytes: int


def cost(call):
    """Returns what a call costs, with the calls inside."""
    sizes = {id(x.value): x.bytes for x in _computed(call)}
    return Cost(_multiplications(call), sum(sizes.values()))


def _multiplications(call):
    layer = call.layer
    if callable(getattr(layer, "multiply_adds", None)):
        shapes = [x.shape for x in call.inputs]
        said = layer.multiply_adds(shapes[0] if len(shapes) == 1 else shapes)
        return None if said is None else (int(said), 0)
    rule = _rule(layer)
    counted = [None if rule is None else rule(call), *map(_multiplications, call.children)]
    return None if None in counted else tuple(map(sum, zip(*counted)))


def _computed(call):
    """Yields the tensors that take memory, some of them more than once."""
    for child in call.children:
        yield from _computed(child)
    for step in call.steps:
        yield step.x
        # The maps of other polynomials are layers.
        yield from (step.factor, step.state) if isinstance(call.layer, SpiralPolynomial) else ()
    if isinstance(call.layer, NCP):
        yield _x_1(call)._replace(value=call)
    for x in call.outputs:
        # What is handed on as it is, or in another shape alone, takes none.
        if not isinstance(call.layer, _VIEWS) and all(x.value is not given.value for given in call.inputs):
            yield x


def _rule(layer):
    """Returns the function that counts the multiplications of a call of a layer beside those inside, or `None`."""
    if not isinstance(layer, keras.layers.Layer):
        return _OPERATIONS.get(type(layer).__name__) if type(layer).__module__.startswith("keras.") else None
    if isinstance(layer, keras.Model):
        return _graph if getattr(layer, "inputs", None) else None
    if isinstance(layer, KernelWrapper):
        rule = _rule(layer.layer)
        return rule and (lambda call: rule(dataclasses.replace(call, layer=layer.layer)))
    for layer_class in type(layer).__mro__:
        if layer_class in _RULES:
            return _RULES[layer_class]
        if "call" in vars(layer_class):
            # It may do anything else than the class that it is derived from.
            return None
    return None


def _none(call):
    return 0, 0


def _graph(call):
    return None if nodes(call) is None else (0, 0)


def _each(number):
    """Returns a rule for layers that multiply each number of their output as often."""
    return lambda call: (0, number * call.y.size)


def _dense(call):
    return call.x.shape[-1] * call.y.size, 0


def _einsum_dense(call):
    labels, outputs = call.layer.equation.replace(" ", "").split(",")[1].split("->")
    summed = [size for label, size in zip(labels, call.layer.kernel.shape) if label not in outputs]
    return call.y.size * math.prod(summed), 0


def _channels(layer, x):
    return x.shape[1 if layer.data_format == "channels_first" else -1]


def _convolution(call):
    layer = call.layer
    return call.y.size * math.prod(layer.kernel_size) * _channels(layer, call.x) // layer.groups, 0


def _transposed_convolution(call):
    return call.x.size * math.prod(call.layer.kernel_size) * call.layer.filters, 0


def _depthwise_convolution(call):
    return call.y.size * math.prod(call.layer.kernel_size), 0


def _separable_convolution(call):
    layer = call.layer
    between = _channels(layer, call.x) * layer.depth_multiplier
    positions = call.y.size // layer.filters
    return positions * between * math.prod(layer.kernel_size) + call.y.size * between, 0


def _dot(call):
    axes = call.layer.axes
    return call.y.size * call.x.shape[axes if isinstance(axes, int) else axes[0]], 0


def _matmul(call):
    return call.y.size * call.x.shape[-1], 0


def _product(call):
    return 0, call.y.size * (len(call.inputs) - 1)


def _product_normalization(call):
    return 0, call.y.size * (1 if call.options.get("factor") is None else 2)


def _spiral_map(layer, table, channels, whole=False):
    """Returns the multiply-adds of a map along spirals, which few filters get of every vertex before it is gathered."""
    vertices, length = layer._table_shape(table)
    rows = vertices if whole or 2 * layer.filters <= channels else layer._rows(table)
    return rows * length * channels * layer.filters


def _spiral_convolution(call):
    return _spiral_map(call.layer, "spirals", call.x.shape[-1]), 0


def _neighbor_sums(call, heads):
    """Returns the multiply-adds of sums of neighbours with `heads` weightings, and of the matrix after them."""
    layer, channels = call.layer, call.x.shape[-1]
    rows, most = layer._rows("neighbors"), layer._table_shape("neighbors")[1]
    return rows * heads * channels * (most + layer.filters), rows * heads * most


def _gmm_convolution(call):
    return _neighbor_sums(call, call.layer.kernels)[0], 0


def _gat_convolution(call):
    sums, weightings = _neighbor_sums(call, call.layer.heads)
    own = call.layer._rows("neighbors") * call.layer.heads
    return sums + (weightings + own) * call.x.shape[-1], 0


def _feast_convolution(call):
    # The shares of the neighbours are divided by their number.
    return _gat_convolution(call)[0], _neighbor_sums(call, call.layer.heads)[1]


def _resample(call):
    return 0, call.y.size * call.layer._table_shape("sources")[1]


def _style_mixing(call):
    return 0, 0 if call.layer.truncation == 1 else call.y.size


def _polynomial(call):
    layer = call.layer
    products = _products_of_steps(call)
    if isinstance(layer, NCP):
        state = _x_1(call).size
        gates = sum(gate is not None for gate in layer.gates) if layer.GATES_THE_STATE else 0
        products += state * (1 + gates)
    return 0, products


def _pooled_product(call):
    gates = sum(gate is not None for gate in call.layer.gates)
    return 0, _products_of_steps(call) + gates * call.x.shape[call.layer.channel_axis]


def _steps_alone(call):
    return 0, _products_of_steps(call)


def _spiral_polynomial(call):
    layer, channels = call.layer, call.x.shape[-1]
    of_z = [*layer.A, layer.S[0]]
    maps = len(of_z) * _spiral_map(layer, "spirals", channels, whole=not layer._one_look)
    maps += (len(layer.S) - 1) * _spiral_map(layer, "spirals", layer.filters, whole=True)
    return maps, _products_of_steps(call)


def _products_of_steps(call):
    """Returns how many products the steps take, without those that a normalisation takes over."""
    layer, products = call.layer, 0
    for step in call.steps:
        if step.n - 1 > layer.computed_products:
            continue
        normalizer, gate = layer.normalizers[step.n - 2], layer.gates[step.n - 2]
        fused = isinstance(normalizer, (ProductBatchNormalization, ProductAffine)) and layer.normalize_at != "order"
        gated = gate is not None and not layer.GATES_THE_STATE
        products += step.x.size * ((not fused) + gated)
    return products


def _x_1(call):
    """Returns what the factor of the first order was called to."""
    return next(child.y for child in call.children if child.layer is call.layer.factors[0])


_VIEWS = (keras.layers.Flatten, keras.layers.Reshape)
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
            "Sigmoid",
            "Softmax",
            "Tanh",
        ),
        _none,
    ),
    **dict.fromkeys(("Divide", "Multiply", "Square", "TrueDivide"), _each(1)),
    "Matmul": _matmul,
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
            LearnedConstant,
            ProdPoly,
        ),
        _none,
    ),
    **dict.fromkeys(
        (
            keras.layers.Average,
            keras.layers.BatchNormalization,
            keras.layers.Normalization,
            keras.layers.Rescaling,
            BatchNormalization,
            VertexStandardization,
        ),
        _each(1),
    ),
    **dict.fromkeys(
        (
            keras.layers.GroupNormalization,
            keras.layers.UnitNormalization,
            Fade,
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
    **dict.fromkeys((ProductAffine, ProductBatchNormalization), _product_normalization),
    **dict.fromkeys((Injection, PolynomialResidual), _steps_alone),
    keras.layers.Dense: _dense,
    keras.layers.Dot: _dot,
    keras.layers.EinsumDense: _einsum_dense,
    keras.layers.Multiply: _product,
    keras.layers.UpSampling2D: lambda call: (0, 0) if call.layer.interpolation == "nearest" else None,
    FeaStConv: _feast_convolution,
    GATConv: _gat_convolution,
    GMMConv: _gmm_convolution,
    MinibatchDeviation: lambda call: (0, call.x.size),
    Polynomial: _polynomial,
    PooledProduct: _pooled_product,
    SpiralConv: _spiral_convolution,
    SpiralPolynomial: _spiral_polynomial,
    StyleMixing: _style_mixing,
    VertexResample: _resample,
}
