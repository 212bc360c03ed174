"""The polynomial degree of a model, from its graph."""

import functools
import math

import keras

from pinets_tf.layers import (
    NCP,
    GMMConv,
    Injection,
    PolynomialResidual,
    PooledProduct,
    ProdPoly,
    SpiralConv,
    VertexResample,
    VertexStandardization,
)
from pinets_tf.layers.horner import HornerLayer
from pinets_tf.layers.kernel_wrapper import KernelWrapper

# At inference: linear (or affine) maps of one input, and layers that pass their input on.
_LINEAR = (
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.Identity,
    keras.layers.InputLayer,
    keras.layers.Normalization,
    keras.layers.Permute,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
    GMMConv,
    SpiralConv,
    VertexResample,
    VertexStandardization,
)
_LINEAR_UP_TO_ACTIVATION = (
    keras.layers.Activation,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.Dense,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.EinsumDense,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_SUMS = (keras.layers.Add, keras.layers.Average, keras.layers.Concatenate, keras.layers.Subtract)


class NotPolynomial(ValueError):
    """Raised by `degree` for a model that is not known to be a polynomial; names the first layer that is to blame."""


def degree(model):
    """Returns the polynomial degree of a model's output in its inputs at inference, read off its graph.

    Linear layers keep the degree, sums take the larger one, products add, the layers of `pinets_tf` multiply it with
    their order. The degree is that of generic weights: special values, such as gates that are still zero, can lower it.

    Args:
        model: a functional or sequential Keras model with one output, or a layer.

    Returns:
        An integer; 1 for a linear model.

    Raises:
        NotPolynomial: if a layer makes the output no polynomial, such as ReLU or instance normalisation, or is not
            known to this function.
        ValueError: if a model has several outputs or is not functional.

    Example:

    >>> from pinets_tf.analysis import degree
    >>> from pinets_tf.models import resnet
    >>> degree(resnet((32, 32, 3), classes=10, stage_blocks=(2, 2, 2, 2), order=3, width=4)) == 3**8
    True
    """
    inputs = 2 if isinstance(model, Injection) else len(getattr(model, "inputs", None) or (0,))
    return _through(model, [1] * inputs)


def _through(layer, degrees):
    """Returns the degree of what `layer` returns for inputs of the given degrees."""
    if isinstance(layer, keras.Sequential):
        return functools.reduce(lambda so_far, part: _through(part, [so_far]), layer.layers, degrees[0])
    if isinstance(layer, keras.Model):
        return _through_graph(layer, degrees)
    if isinstance(layer, _SUMS):
        return max(degrees)
    if isinstance(layer, keras.layers.Multiply):
        return sum(degrees)
    if isinstance(layer, KernelWrapper):
        return _through(layer.layer, degrees)
    if isinstance(layer, Injection):
        return _injection_degree(layer, *degrees)
    return degrees[0] * _order(layer)


def _order(layer):
    """Returns the degree of a layer with one input."""
    if isinstance(layer, _LINEAR) or (isinstance(layer, keras.layers.BatchNormalization) and not layer.renorm):
        return 1
    if isinstance(layer, _LINEAR_UP_TO_ACTIVATION) and layer.activation is keras.activations.linear:
        return 1
    if isinstance(layer, ProdPoly):
        return math.prod(_order(part) for part in layer.polynomials)
    if isinstance(layer, HornerLayer):
        return _horner_degree(layer)
    raise NotPolynomial(
        f"A polynomial is made of linear maps, sums and products. Received: the layer {layer.name} of type "
        f"{type(layer).__name__}{_activation_of(layer)}, which is none of these, or not known. Remove it, or replace "
        "it by a layer that is linear at inference."
    )


def _horner_degree(layer):
    """Follows the recursion of a polynomial layer in degrees."""
    scale = _normalizer_degree(layer)
    computed = layer.computed_products
    if isinstance(layer, PolynomialResidual):
        shortcut = 1 if layer.shortcut is None else _through(layer.shortcut, [1])
        factor = shortcut if layer.factor is None else _through(layer.factor, [shortcut])
        x = carry = _through(layer.branch, [1])
        for n in range(1, layer.order):
            x = max(scale * (factor + x), carry) if n <= computed else carry
        return max(shortcut, x)
    if isinstance(layer, PooledProduct):
        factor = _through(layer.factor, [1])
        return functools.reduce(lambda x, _: max(scale * (factor + x), x), range(computed), 1)
    operator = getattr(layer, "operator", None)
    factor = 1 if operator is None else _through(operator, [1])
    state = factor if isinstance(layer, NCP) else 1
    others = 1 if getattr(layer, "identity_factors", False) else factor
    x = factor
    for n in range(1, layer.order):
        # A product that is left out passes on what is carried around it, or else the state.
        x = scale * (others + state * x) if n <= computed else (state * x if type(layer) is NCP else x)
    return x


def _normalizer_degree(layer):
    """Returns the degree of what normalises the products of a polynomial layer."""
    normalize = layer.normalize if layer.order > 1 else None
    if isinstance(normalize, str) and normalize not in ("batch", "affine", "offset"):
        raise NotPolynomial(
            f"A polynomial is made of linear maps, sums and products. Received: the layer {layer.name} with "
            f"normalize={normalize!r}. Use normalize='batch', which is linear at inference."
        )
    return _through(normalize, [1]) if isinstance(normalize, keras.layers.Layer) else 1


def _injection_degree(layer, x, z):
    """Returns the degree of a map of degree `x` after a product with a vector made from a latent of degree `z`."""
    factor = z if layer.factor is None else _through(layer.factor, [z])
    if not layer.computed_products:
        return max(x, factor) if layer.offset else x
    # A map to which nothing is multiplied has a lower degree than the product, and so has the offset.
    return _normalizer_degree(layer) * (factor + x)


def _activation_of(layer):
    activation = getattr(layer, "activation", None)
    return f" with activation {getattr(activation, '__name__', activation)}" if activation is not None else ""


def _through_graph(model, degrees):
    outputs = getattr(model, "outputs", None) or ()
    if len(outputs) != 1:
        what = f"with {len(outputs)} outputs" if outputs else "which is not functional"
        raise ValueError(
            f"The degree is that of one output of a functional or sequential model. Received: {model.name}, {what}. "
            "Pass keras.Model(inputs, output)."
        )
    known = {id(tensor): value for tensor, value in zip(model.inputs, degrees)}

    def of(tensor):
        if id(tensor) not in known:
            layer, node, _ = tensor._keras_history
            known[id(tensor)] = _through(layer, [of(source) for source in layer._inbound_nodes[node].input_tensors])
        return known[id(tensor)]

    return of(model.outputs[0])
