"""What each layer is at inference: an affine map, a sum, a product, a polynomial of its own, or none of these."""

import math

import keras

from pinets_tf import _keras
from pinets_tf.analysis.operations import kind_of_operation, operation_multiplies, power_of

KINDS = ("linear", "sum", "product", "constant")

# Affine maps of one input, and layers that pass their input on. Those with an activation only if it is linear.
_LINEAR = (
    keras.layers.Activation,
    keras.layers.ActivityRegularization,
    keras.layers.AlphaDropout,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.BatchNormalization,
    keras.layers.Conv1D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3D,
    keras.layers.Conv3DTranspose,
    keras.layers.CenterCrop,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.Dense,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Dropout,
    keras.layers.EinsumDense,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalAveragePooling3D,
    keras.layers.Identity,
    keras.layers.InputLayer,
    keras.layers.Normalization,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Rescaling,
    keras.layers.Reshape,
    keras.layers.Resizing,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling2D,
    keras.layers.UpSampling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
)
_SUMS = (
    keras.layers.Add,
    keras.layers.Average,
    keras.layers.Concatenate,
    keras.layers.Subtract,
)
# Of those, the ones that multiply nothing: they move, copy, add or leave out numbers.
WITHOUT_MULTIPLICATION = (
    keras.layers.Activation,
    keras.layers.ActivityRegularization,
    keras.layers.Add,
    keras.layers.AlphaDropout,
    keras.layers.Concatenate,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Cropping3D,
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.InputLayer,
    keras.layers.Permute,
    keras.layers.RepeatVector,
    keras.layers.Reshape,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
    keras.layers.Subtract,
    keras.layers.UpSampling1D,
    keras.layers.UpSampling3D,
    keras.layers.ZeroPadding1D,
    keras.layers.ZeroPadding2D,
    keras.layers.ZeroPadding3D,
)
_OF_KERAS: dict = {
    **dict.fromkeys(_LINEAR, "linear"),
    **dict.fromkeys(_SUMS, "sum"),
    keras.layers.Dot: "product",
    keras.layers.Multiply: "product",
    keras.layers.TimeDistributed: "wrapper",
}


class NotPolynomial(ValueError):
    """Raised for a model that is not known to be a polynomial; names the first layer that is to blame."""


def register_layer(layer_class, kind):
    """Says what the layers of a class of yours are at inference, to all functions of `pinets_tf.analysis`.

    It is the attribute `acts_as` of the class, which may be stated there as well. It holds for subclasses too, but for
    those with a `call` or `recursion` of their own, and comes before what is known of the classes that `layer_class` is
    derived from.

    Args:
        layer_class: a subclass of `keras.layers.Layer`, with one output, that treats each element of a batch alone.
        kind: what is between the inputs and the output at inference:
            `"linear"`, an affine map of one input, such as a convolution with bias;
            `"sum"`, an affine map of several inputs together, such as their sum or concatenation;
            `"product"`, a map that is linear in each of its inputs alone, such as their elementwise or matrix product;
            `"constant"`, which depends on no input;
            or a function of the degrees of the inputs that returns the degree of the output: enough for `degree`, while
            functions that need the terms themselves, such as `contributions`, then raise `NotPolynomial`.

    Raises:
        ValueError: if `layer_class` is not a class of Keras layers, or `kind` is none of those above.

    Example:

    >>> import keras
    >>> from pinets_tf.analysis import degree, register_layer
    >>> class Cube(keras.layers.Layer):
    ...     def call(self, x):
    ...         return x * x * x
    >>> register_layer(Cube, lambda degree: 3 * degree)
    >>> degree(keras.Sequential([keras.Input((4,)), Cube(), keras.layers.Dense(2), Cube()]))
    9
    """
    if not (isinstance(layer_class, type) and issubclass(layer_class, keras.layers.Layer)):
        raise ValueError(
            "Kinds are those of classes of Keras layers. "
            f"Received: {layer_class!r}. Pass the class itself, such as MyLayer."
        )
    if not (callable(kind) or kind in KINDS):
        raise ValueError(
            f"A kind of layer is one of {', '.join(map(repr, KINDS))}, or a function of degrees. "
            f"Received: kind={kind!r} for {layer_class.__name__}. Pass one of those."
        )
    setattr(layer_class, "acts_as", staticmethod(kind) if callable(kind) else kind)  # noqa: B010


def kind_of(layer, node=None):
    """Returns what a layer or operation is at inference.

    That is one of `KINDS`, `"polynomial"` for ours, a function of degrees, or a number n for the n-th power. Of what is
    none of these, or not known, it raises `NotPolynomial`.

    Args:
        layer: a Keras layer or operation.
        node: where in a graph it is called; by default where it was first. Of operations it says with which arguments.
    """
    if getattr(layer, "quantization_mode", None):
        raise NotPolynomial(
            "A quantised layer rounds its inputs, and is linear only nearly. Received: the layer "
            f"{layer.name} with quantization_mode={layer.quantization_mode!r}. Pass the model as it was before."
        )
    if isinstance(layer, keras.layers.Layer) and node is not None:
        check_call(layer, node)
    kind = stated_by_class(layer, node)
    if kind == "wrapper":
        kind = kind_of(layer.layer)
        # What it makes of the input is not what the recursion inside is given.
        kind = None if kind == "polynomial" else kind
    if kind is not None:
        return kind
    if not isinstance(layer, keras.layers.Layer):
        node = _keras.inbound_nodes(layer)[0] if node is None else node
        kind = power_of(layer, node) or kind_of_operation(layer, node)
        if kind is not None:
            return kind
    raise NotPolynomial(
        f"A polynomial is made of linear maps, sums and products. Received: the layer {layer.name} of type "
        f"{type(layer).__name__}{_settings(layer)}, which is none of these, or not known. Remove it, or replace it by "
        "a layer that is linear at inference; if it is one of yours, say with `analysis.register_layer` what it is."
    )


def stated_by_class(layer, node=None):
    """Returns what the class of a layer states, or `None` where it computes something else than the class that does."""
    own_recursion = False
    for layer_class in type(layer).__mro__:
        own = vars(layer_class)
        kind = own.get("acts_as") or (_is_affine_as_it_is_set(layer, node) and _OF_KERAS.get(layer_class))
        if kind:
            # What computes its recursion is what that says.
            kind = kind.__func__ if isinstance(kind, staticmethod) else kind
            return None if own_recursion and kind != "polynomial" else kind
        if "call" in own:
            return None
        own_recursion = own_recursion or "recursion" in own
    return None


def multiplies(layer):
    """Returns whether a layer or operation that is affine multiplies numbers, with weights or with others."""
    if isinstance(layer, keras.layers.UpSampling2D):
        return layer.interpolation != "nearest"
    if not isinstance(layer, keras.layers.Layer):
        return operation_multiplies(layer)
    return not isinstance(layer, WITHOUT_MULTIPLICATION) and getattr(layer, "multiplies", True)


def check_call(layer, node):
    """Raises `NotPolynomial` for a layer or model that a graph calls in another way than at inference."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    # A second argument that is `True` is `training`, of all layers of Keras.
    training = kwargs.get("training") or any(value is True for value in args[1:])
    # Keras fills in a structure of `None` where no input has a mask.
    masks = [mask for mask in keras.tree.flatten(kwargs.get("mask")) if mask is not None]
    if training or masks:
        how = "training=True" if training else "a mask"
        raise NotPolynomial(
            "A polynomial is made of what layers compute at inference, from their inputs alone. Received: the layer "
            f"{layer.name} of type {type(layer).__name__}, called with {how}. Call it without."
        )


def _is_affine_as_it_is_set(layer, node):
    if isinstance(layer, keras.layers.Concatenate):
        rank = len(node.input_tensors[0].shape) if node is not None else math.inf
        return layer.axis % rank != 0
    linear_activation = getattr(layer, "activation", keras.activations.linear) is keras.activations.linear
    # Batch normalisation may have `renorm`, and a scalar product may be one of vectors of norm 1.
    normalizes = isinstance(layer, keras.layers.Dot) and layer.normalize
    return linear_activation and not getattr(layer, "renorm", False) and not normalizes


def _settings(layer):
    activation = getattr(layer, "activation", None)
    return f" with activation {getattr(activation, '__name__', activation)}" if activation is not None else ""
