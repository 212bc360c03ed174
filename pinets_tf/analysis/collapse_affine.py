"""Affine maps that follow each other directly, made one."""

import collections
import functools
import math
import re
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from pinets_tf import _keras
from pinets_tf.analysis.kinds import NotPolynomial, check_call, stated_by_class
from pinets_tf.analysis.model_graph import copied_graph, copy_of, graph_nodes, has_graph, parts_of, rewritten_graph
from pinets_tf.layers.copying import copy_weights
from pinets_tf.layers.normalization.batch_normalization import affine_at_inference

# By the shapes of their kernels: (*taps, in / groups, out), (*taps, out, in), (*taps, in, multiplier), and two of them.
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
# Whether the channels of a layer are the last axis of its inputs, of so many axes, and of its kernel.
_LINEAR = {
    keras.layers.Dense: lambda layer, axes: True,
    keras.layers.EinsumDense: lambda layer, axes: (
        re.fullmatch(r".*,\w*(\w)->.*\1", layer.equation)
        and (layer.bias is None or layer.bias.shape[-1] == layer.kernel.shape[-1])
    ),
    **dict.fromkeys(
        (*_CONVOLUTIONS, *_TRANSPOSED, *_DEPTHWISE, *_SEPARABLE),
        lambda layer, axes: layer.data_format == "channels_last",
    ),
}
_OF_CHANNELS = {
    keras.layers.BatchNormalization: lambda layer, axes: layer.axis in (-1, axes - 1) and not layer.renorm,
    keras.layers.Normalization: lambda layer, axes: {*layer.axis} <= {-1, axes - 1},
    keras.layers.Rescaling: lambda layer, axes: np.ndim(layer.scale) == np.ndim(layer.offset) == 0,
}


def collapse_affine(model):
    """Returns a copy of a model in which affine maps that follow each other directly are one; it is for inference.

    Two maps y = W x + b and s * y + t, such as a convolution and the batch normalisation after it, are one map

        W' = diag(s) W,    b' = s * b + t

    and two matrices y = W x + b and V y + c are W' = V W, b' = V b + c. It is computed in float64 and stored in the
    type of the weights. What is composed:

    - Batch normalisations, `Normalization` over the channels and `Rescaling` by numbers become part of the linear map
      before them: Dense, EinsumDense (whose kernel has the channels last), and convolutions of all kinds (also grouped,
      depthwise, separable, transposed).
    - They become part of the Dense layer or convolution (not a transposed one) after them, their offset only where no
      zeros are padded: the zeros are padded behind the offset, and a bias would be added to them too.
    - Dense layers, and convolutions that are not grouped, where that takes no more multiply-adds, and where it is exact
      at the border: the second is a Dense layer or a 1x1 convolution of stride 1 (after a separable or transposed
      convolution too); or the first is, without bias if the second one pads zeros; or neither pads, nor is dilated. Two
      3x3 convolutions with `padding="same"` are not one of 5x5: around the image the first one computes nothing, and
      the second one takes zeros instead, while the one of 5x5 would go on with what the first one would have computed.

    A map stays as it is where another layer takes its output too, where it is called more than once, where it has an
    activation, a LoRA adapter or another dtype policy than its neighbour, or where the channels come first. Maps meet
    within one graph: that of the model, of a model nested in it, or of the `branch`, `shortcut` and `factor` of a
    `PolynomialResidual` and the `polynomials` of a `ProdPoly`; what is called with `training=True` stays as it is. The
    normalisations of products are folded by `models.fold_normalization`.

    Args:
        model: a built functional or sequential model. It is left as it is.

    Returns:
        A functional model, not compiled, of the same name, inputs and outputs, with weights of its own. A linear map
        keeps its name when it takes in a normalisation, and two linear maps have that of the second one. One map of
        two is frozen where one of them was.

    Raises:
        ValueError: if the model is of another kind or has no inputs yet, is quantised, or has a layer that cannot be
            copied.

    Example:

    >>> import keras
    >>> from pinets_tf.analysis import collapse_affine
    >>> convolution = keras.layers.Conv2D(8, 3, padding="same", use_bias=False, name="convolution")
    >>> layers = [convolution, keras.layers.BatchNormalization(), keras.layers.Conv2D(4, 1, name="scores")]
    >>> model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    >>> [(layer.name, layer.use_bias) for layer in collapse_affine(model).layers[1:]]
    [('scores', True)]

    Source: ours. Batch normalisation at inference: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network
    Training by Reducing Internal Covariate Shift", ICML 2015.
    """
    if not has_graph(model) or not getattr(model, "outputs", None):
        raise ValueError(
            "Affine maps are joined in a copy of the graph of a model. "
            f"Received: {model!r}. Pass a built functional or sequential model."
        )
    if quantized := [layer.name for layer in _keras.flatten_layers(model) if getattr(layer, "quantization_mode", None)]:
        raise ValueError(
            "Affine maps are joined before they are quantised. "
            f"Received: the model {model.name} with quantised layers, such as {quantized[0]}. "
            "Pass the model as it was before."
        )
    collapsing = _Collapsing(model)
    collapsed = collapsing.collapsed(model)
    for new, old, leave in collapsing.copies:
        copy_weights(new, old, leave)
    return collapsed


class _Map(NamedTuple):
    """A layer that is an affine map, and the shapes of what it is given and returns."""

    layer: keras.Layer
    given: tuple
    returned: tuple

    @property
    def multiply_adds(self):
        """Those for each element of a batch; sizes that are not known count as one."""
        shape = self.given if isinstance(self.layer, _TRANSPOSED) else self.returned
        kernels = sum(math.prod(x.shape) for x in self.layer.weights if x.name.endswith("kernel"))
        return math.prod(size or 1 for size in shape[1:-1]) * kernels


class _Collapsing:
    """A walk through the graphs of a model that copies them, with fewer layers for each run of affine maps."""

    def __init__(self, model):
        layers = [part.layer for part in parts_of(model)]
        graphs = [layer for layer in layers if has_graph(layer) and getattr(layer, "outputs", None)]
        self.nodes = {id(graph): graph_nodes(graph) for graph in graphs}
        nodes = [node for of_one in self.nodes.values() for node in of_one]
        others = [x for x in layers if isinstance(x, keras.layers.Layer) and id(x) not in self.nodes]
        # How often each layer is called in a graph, or is a part of another one.
        self.uses = collections.Counter(id(node.operation) for node in nodes)
        self.uses.update(id(part) for x in others for part in _keras.own_layers(x))
        self.in_training = {id(node.operation) for node in nodes if not _is_at_inference(node)}
        # The copies by the identity of what they were made from, and those that need weights.
        self.made: dict[int, keras.Operation] = {}
        self.copies: list[tuple] = []

    def collapsed(self, model):
        instead = self.instead_of_runs(model)

        def called(layer, *args, **kwargs):
            if id(layer) not in instead:
                return self.copied(layer)(*args, **kwargs)
            x = args[0] if args else kwargs["inputs"]
            return functools.reduce(lambda x, new: new(x), instead[id(layer)], x)

        collapsed = rewritten_graph(model, lambda layer: layer, called)
        if not model.trainable:
            collapsed.trainable = False
        return collapsed

    def instead_of_runs(self, model):
        """Returns what is called instead of each affine map: at the first of a run all of it, then nothing."""
        nodes = self.nodes[id(model)]
        takers = collections.Counter(map(id, [*model.outputs, *(x for node in nodes for x in node.input_tensors)]))
        runs: dict[int, list[_Map]] = {}
        for node in nodes:
            if self.uses[id(node.operation)] == 1 and _is_affine(node):
                x, y = node.input_tensors[0], node.output_tensors[0]
                before = runs.pop(id(x), []) if takers[id(x)] == 1 else []
                runs[id(y)] = [*before, _Map(node.operation, x.shape, y.shape)]
        instead: dict[int, list] = {id(one.layer): [] for run in runs.values() for one in run}
        for run in runs.values():
            instead[id(run[0].layer)] = [self.copied(x.layer) if x in run else x.layer for x in _all_joined(run)]
        return instead

    def copied(self, layer):
        if id(layer) not in self.made:
            collapses = id(layer) in self.nodes and id(layer) not in self.in_training
            self.made[id(layer)] = self.collapsed(layer) if collapses else self.copy(layer)
        return self.made[id(layer)]

    def copy(self, layer):
        names = () if id(layer) in self.in_training else getattr(layer, "USED_AS_THEY_ARE", ())
        old = {name: getattr(layer, name) for name in names}
        new = keras.tree.map_structure(lambda part: None if part is None else self.copied(part), old)
        copy = copied_graph(layer) if id(layer) in self.nodes else copy_of(layer, **new)
        if isinstance(layer, keras.layers.Layer):
            self.copies.append((copy, layer, keras.tree.flatten([old, new])))
        return copy


def _is_at_inference(node):
    """Returns whether a graph calls a layer as at inference, with its inputs alone."""
    try:
        check_call(node.operation, node)
    except NotPolynomial:
        return False
    return True


def _is_affine(node):
    """Returns whether a graph calls a map there that may become part of another one."""
    layer = node.operation
    # A subclass may do anything else.
    has_last_channels = {**_LINEAR, **_OF_CHANNELS}.get(_kind(layer))
    if has_last_channels is None or not _is_at_inference(node):
        return False
    x, linear = node.input_tensors[0], keras.activations.linear
    adapted = getattr(layer, "lora_enabled", False) or getattr(layer, "activation", linear) is not linear
    # Linear maps take no whole numbers.
    return not adapted and "float" in x.dtype and has_last_channels(layer, len(x.shape))


def _kind(layer):
    """Returns the class in the tables that a layer computes as."""
    is_batch = isinstance(layer, keras.layers.BatchNormalization) and stated_by_class(layer) == "linear"
    return keras.layers.BatchNormalization if is_batch else type(layer)


def _all_joined(run):
    """Returns the fewest maps that stand for a run of them."""
    done: list[_Map] = []
    for later in run:
        done.append(later)
        while len(done) > 1 and (one := _joined(*done[-2:])) is not None:
            done[-2:] = [one]
    return done


def _joined(first, second):
    """Returns the one map that stands for two, or `None` where there is none, or one of more multiply-adds."""
    f, g = first.layer, second.layer
    before, after = (_at_each_position(layer, second.given[-1]) for layer in (f, g))
    found = None
    # A convolution ends a mask, and a Dense layer does not: of the two the convolution stays.
    if after is not None and type(f) in _LINEAR and (type(f) is not keras.layers.Dense or _kind(g) in _OF_CHANNELS):
        found = _with_output(f, *after)
    elif before is not None and type(g) in _LINEAR and not (_adds(f) and _pads(g)):
        found = _with_input(g, *before)
    elif before is None and type(f) in _CONVOLUTIONS and type(g) in _CONVOLUTIONS:
        found = _convolved(f, g)
    if found is None or f.dtype_policy != g.dtype_policy:
        return None
    base, config, kernels, bias = found
    if base.bias is None and (_adds(f) or _adds(g)):
        is_einsum = isinstance(base, keras.layers.EinsumDense)
        config |= {"bias_axes": base.equation[-1]} if is_einsum else {"use_bias": True}
    name = f.name if _kind(g) in _OF_CHANNELS else g.name
    layer = copy_of(base, name=name, trainable=f.trainable and g.trainable, **config)
    layer.build(first.given)
    for weight, value in {**kernels, "bias": bias}.items():
        if getattr(layer, weight) is not None:
            getattr(layer, weight).assign(value)
    one = _Map(layer, first.given, second.returned)
    return one if one.multiply_adds <= first.multiply_adds + second.multiply_adds else None


def _at_each_position(layer, channels):
    """Returns what a layer does at each position alone, or `None`: a matrix, or a scale of each channel; an offset."""
    if isinstance(layer, keras.layers.Rescaling):
        return np.full(channels, layer.scale, "float64"), np.full(channels, layer.offset, "float64")
    if isinstance(layer, keras.layers.BatchNormalization):
        mean, variance, gamma, beta = map(_numbers, (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta))
        return affine_at_inference(mean, variance, gamma, beta, layer.epsilon, lambda x: 1 / np.sqrt(x))
    if isinstance(layer, keras.layers.Normalization):
        mean, variance = (np.broadcast_to(_numbers(x).ravel(), channels) for x in (layer.mean, layer.variance))
        deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
        return (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    pointwise = type(layer) in _CONVOLUTIONS and {*layer.kernel_size, *layer.strides, layer.groups} == {1}
    if not pointwise and type(layer) is not keras.layers.Dense:
        return None
    kernel = _numbers(layer.kernel)
    return kernel.reshape(kernel.shape[-2:]), _bias(layer, kernel.shape[-1])


def _with_output(layer, matrix, offset):
    """Returns a linear map with what happens at each position after it: a layer, changes of its config, its weights."""
    kernels, transposed = _kernels(layer), isinstance(layer, _TRANSPOSED)
    name, bias = [*kernels][-1], _bias(layer, len(matrix))
    if matrix.ndim == 1:
        # Of a depthwise kernel both last axes are the channels.
        by_kernel = kernels[name].shape[-2:] if isinstance(layer, _DEPTHWISE) else (-1, 1) if transposed else -1
        kernels[name] = kernels[name] * matrix.reshape(by_kernel)
        return layer, {}, kernels, bias * matrix + offset
    if isinstance(layer, (keras.layers.EinsumDense, *_DEPTHWISE)) or getattr(layer, "groups", 1) > 1:
        return None
    kernels[name] = matrix.T @ kernels[name] if transposed else kernels[name] @ matrix
    width = "units" if isinstance(layer, keras.layers.Dense) else "filters"
    return layer, {width: matrix.shape[1]}, kernels, bias @ matrix + offset


def _with_input(layer, matrix, offset):
    """Returns a linear map with what happens at each position before it, as `_with_output` does."""
    kernels, groups, apart = _kernels(layer), getattr(layer, "groups", 1), isinstance(layer, _DEPTHWISE + _SEPARABLE)
    takes_no_matrix = groups > 1 or apart
    takes_nothing = isinstance(layer, (keras.layers.EinsumDense, *_TRANSPOSED))
    if takes_nothing or (takes_no_matrix and matrix.ndim == 2):
        return None
    name, kernel = next(iter(kernels.items()))

    def times(channels):
        # Each group of outputs has inputs of its own.
        return kernel * np.repeat(channels.reshape(groups, -1).T, kernel.shape[-1] // groups, axis=1)

    kernels[name] = times(matrix) if matrix.ndim == 1 else matrix @ kernel
    constant = times(offset).sum(tuple(range(kernel.ndim - 2)))
    constant = constant.ravel() if apart else constant.sum(0)
    if isinstance(layer, _SEPARABLE):
        constant = (constant @ kernels["pointwise_kernel"]).ravel()
    return layer, {}, kernels, _bias(layer, len(constant)) + constant


def _convolved(first, second):
    """Returns the convolution that two are that pad no zeros, as `_with_output` does."""
    if any(layer.groups > 1 or {*layer.dilation_rate} != {1} or _pads(layer) for layer in (first, second)):
        return None
    kernel_1, kernel_2 = _numbers(first.kernel), _numbers(second.kernel)
    sizes = [(n - 1) * step + m for m, n, step in zip(first.kernel_size, second.kernel_size, first.strides)]
    kernel = np.zeros((*sizes, kernel_1.shape[-2], second.filters))
    for tap in np.ndindex(*second.kernel_size):
        starts = [place * step for place, step in zip(tap, first.strides)]
        kernel[tuple(slice(n, n + m) for n, m in zip(starts, first.kernel_size))] += kernel_1 @ kernel_2[tap]
    strides = [one * other for one, other in zip(first.strides, second.strides)]
    constant = _bias(first, first.filters) @ kernel_2.sum(tuple(range(len(sizes))))
    config = {"kernel_size": sizes, "strides": strides, "padding": "valid"}
    return second, config, {"kernel": kernel}, _bias(second, second.filters) + constant


def _adds(layer):
    """Returns whether a map has an offset, which may be zero as yet."""
    return layer.offset != 0 if isinstance(layer, keras.layers.Rescaling) else getattr(layer, "bias", 0) is not None


def _pads(layer):
    return getattr(layer, "padding", "valid") != "valid" and {*layer.kernel_size} != {1}


def _kernels(layer):
    """Returns the kernels of a layer, the one that its input meets first."""
    names = ("kernel", "depthwise_kernel", "pointwise_kernel")
    return {name: _numbers(getattr(layer, name)) for name in names if hasattr(layer, name)}


def _bias(layer, channels):
    return np.zeros(channels) if layer.bias is None else _numbers(layer.bias)


def _numbers(weight):
    return None if weight is None else ops.convert_to_numpy(weight).astype("float64")
