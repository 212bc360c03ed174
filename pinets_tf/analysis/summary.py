"""What each block of a model is and what it costs: order, degree, rank, parameters, multiplications, memory."""

import contextlib
import dataclasses
import functools
import math
import re
from typing import Any, NamedTuple

import keras

from pinets_tf.analysis.degree import degree
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
from pinets_tf.layers.batch_normalization import ProductAffine, ProductBatchNormalization, ProductOffset
from pinets_tf.layers.fade import Fade
from pinets_tf.layers.horner import HornerLayer
from pinets_tf.layers.kernel_wrapper import KernelWrapper
from pinets_tf.layers.learned_constant import LearnedConstant
from pinets_tf.layers.minibatch_deviation import MinibatchDeviation
from pinets_tf.layers.noise_injection import NoiseInjection
from pinets_tf.layers.polynomial import Polynomial
from pinets_tf.layers.style_mixing import StyleMixing

_HEADINGS = (
    "Layer (type)",
    "Output shape",
    "Order",
    "Degree",
    "Rank",
    "Parameters",
    "Multiply-adds",
    "Products",
    "Activations",
)
_TEXT_COLUMNS = 2


@dataclasses.dataclass(frozen=True)
class BlockSummary:
    """One block of a model, or the whole; the numbers are those of a batch of one at inference.

    Args:
        layer: the path of the layer within the model, such as `"stem/conv2d"`, or the name of the model.
        kind: the name of its class.
        output_shape: that of its first output, `None` standing for the batch.
        order: N of a polynomial layer, or `None`.
        degree: that of its output in the inputs of the model, or `None` where it is no polynomial of them.
        rank: k of a polynomial layer with matrices, or `None`.
        parameters: the numbers in its weights, also those that are not trained. Those of a layer that is called twice
            are counted where it is called first.
        multiply_adds: those of its linear maps, or `None` if unknown.
        products: its elementwise multiplications, or `None` if unknown.
        activation_bytes: the size of the outputs of all layers in it and of the x_n of its recursions.
    """

    layer: str
    kind: str
    output_shape: tuple
    order: int | None
    degree: int | None
    rank: int | None
    parameters: int
    multiply_adds: int | None
    products: int | None
    activation_bytes: int


@dataclasses.dataclass(frozen=True)
class PolynomialSummary:
    """The blocks of a model; as a text, a table for the terminal.

    Args:
        rows: a `BlockSummary` of each block, in the order of computation.
        total: the `BlockSummary` of the whole; its `multiply_adds` and `products` are `None` if those of a row are.
    """

    rows: tuple[BlockSummary, ...]
    total: BlockSummary

    @property
    def unknown(self):
        """The layers whose multiplications are unknown."""
        return tuple(row.layer for row in self.rows if row.multiply_adds is None)

    def __str__(self):
        table = self._table()
        widths = [max(map(len, column)) for column in zip(*table)]
        ruler = "-" * (sum(widths) + 2 * len(widths) - 2)
        lines = ["  ".join(map(_aligned, range(len(row)), row, widths)).rstrip() for row in table]
        return "\n".join([lines[0], ruler, *lines[1:-1], ruler, lines[-1], *self._notes()])

    def markdown(self):
        """Returns the table as Markdown."""
        heading, *rows = ([cell.replace("|", "\\|") for cell in row] for row in self._table())
        ruler = ["---" if column < _TEXT_COLUMNS else "---:" for column in range(len(heading))]
        table = "\n".join(f"| {' | '.join(row)} |" for row in (heading, ruler, *rows))
        return "\n\n".join([table, *self._notes()])

    def _table(self):
        rows = [_cells(row, _count) for row in self.rows]
        return [_HEADINGS, *rows, _cells(self.total, self._total_count)]

    def _total_count(self, row, name):
        if getattr(row, name) is not None:
            return _count(row, name)
        return f"at least {sum(getattr(row, name) or 0 for row in self.rows):,}"

    def _notes(self):
        return [f"Multiplications unknown: {', '.join(self.unknown)}."] if self.unknown else []


def polynomial_summary(model):
    """Returns what each block of a model is and costs, for a batch of one at inference.

    What is counted, each multiplication once, with the addition that may follow it:

    - multiply-adds: those of linear maps, that is of dense layers, of convolutions (at the borders as elsewhere) and of
      products of matrices. TensorFlow's profiler counts each as two operations of Conv2D, Conv2DBackpropInput,
      DepthwiseConv2dNative, MatMul or BatchMatMulV2.
    - products: multiplications, squares and divisions of numbers at the same place: the Hadamard product of a step, the
      scale of its normalisation, gates, b_1 of an NCP, the scale of a batch normalisation, and two to four for each
      number in normalisations by statistics of the input. TensorFlow's profiler counts each as one operation of Mul,
      Square or RealDiv or two of SquaredDifference, and not at all where it is part of FusedBatchNormV3.

    Sums, pooling, activation functions and what moves or copies numbers count as none. Neither does what is computed
    from weights alone, such as the scaling of a kernel, since it is the same for every batch. Normalisations are
    counted as they stand; `models.fold_normalization` removes some of them.

    A model of one input within the model is shown with its own layers. What is not known to this function, such as a
    recurrent layer or one of yours, has its parameters counted and `None` (as a text, "unknown") for its
    multiplications. A layer of yours says what it takes by a method `multiply_adds(input_shape)`, which gets the shape
    of its input with a batch of one, or a list of shapes, and returns a number.

    Args:
        model: a functional or sequential Keras model, all sizes of whose inputs are known but for the batch.

    Returns:
        A `PolynomialSummary`. `print(polynomial_summary(model))` prints a table; `.markdown()` returns one.

    Raises:
        ValueError: if the model is not functional or sequential, or if a size of its inputs is not known.

    Example:

    >>> import keras
    >>> from pinets_tf.analysis import polynomial_summary
    >>> from pinets_tf.layers import CCP
    >>> model = keras.Sequential([keras.Input((784,)), CCP(10, order=3, rank=16, name="ccp")], name="digits")
    >>> print(polynomial_summary(model))
    Layer (type)         Output shape  Order  Degree  Rank  Parameters  Multiply-adds  Products  Activations
    --------------------------------------------------------------------------------------------------------
    ccp (CCP)            (None, 10)        3       3    16      37,802         37,792        32      0.4 KiB
    --------------------------------------------------------------------------------------------------------
    digits (Sequential)  (None, 10)        -       3     -      37,802         37,792        32      0.4 KiB

    Source: ours.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            "The blocks of a model are those of the graph of a functional or sequential model. "
            f"Received: {model!r}, which has none. Pass keras.Model(inputs, outputs)."
        )
    call = _traced(model)
    if _nodes(call) is None:
        raise ValueError(
            "The blocks of a model are those of the graph of a functional or sequential model. "
            f"Received: {model!r}, whose `call` does something else. Pass keras.Model(inputs, outputs)."
        )
    rows = tuple(_rows(call, "", 1, set()))
    total = BlockSummary(
        layer=model.name,
        kind=type(model).__name__,
        output_shape=tuple(model.outputs[0].shape),
        order=None,
        degree=_degree(model) if len(model.outputs) == 1 else None,
        rank=None,
        parameters=model.count_params(),
        multiply_adds=_sum(row.multiply_adds for row in rows),
        products=_sum(row.products for row in rows),
        activation_bytes=sum(row.activation_bytes for row in rows),
    )
    return PolynomialSummary(rows, total)


def _aligned(column, cell, width):
    return cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)


def _cells(row, count):
    def known(value):
        return "-" if value is None else f"{value:,}"

    return (
        f"{row.layer} ({row.kind})",
        str(row.output_shape),
        known(row.order),
        known(row.degree),
        known(row.rank),
        f"{row.parameters:,}",
        count(row, "multiply_adds"),
        count(row, "products"),
        f"{row.activation_bytes / 1024:,.1f} KiB",
    )


def _count(row, name):
    value = getattr(row, name)
    return "unknown" if value is None else f"{value:,}"


def _sum(values):
    values = list(values)
    return None if None in values else sum(values)


class _Tensor(NamedTuple):
    """What is known of a tensor; `value` is it itself, to see whether another is the same one."""

    shape: tuple[int, ...]
    dtype: str
    value: Any

    @property
    def size(self):
        return math.prod(self.shape)

    @property
    def bytes(self):
        bits = re.search(r"\d+", self.dtype)
        return self.size * (int(bits[0]) // 8 if bits else 1)


@dataclasses.dataclass
class _Call:
    """A call of a layer or operation, with the calls of the layers inside and what its recursion computed."""

    layer: keras.Operation
    inputs: list[_Tensor]
    options: dict
    outputs: list[_Tensor] = dataclasses.field(default_factory=list)
    children: list["_Call"] = dataclasses.field(default_factory=list)
    steps: list["_Step"] = dataclasses.field(default_factory=list)

    @property
    def x(self):
        return self.inputs[0]

    @property
    def y(self):
        return self.outputs[0]


class _Step(NamedTuple):
    """A step x_n of a polynomial layer, as it was computed."""

    n: int
    factor: _Tensor
    state: _Tensor
    x: _Tensor


def _traced(model):
    """Returns the call of a model with a batch of one. Nothing is computed: the backend traces shapes and types."""

    def single(x):
        if None in x.shape[1:]:
            raise ValueError(
                "What a model costs depends on all sizes of its inputs but the batch. "
                f"Received: the input {x.name} of {model.name}, of shape {tuple(x.shape)}. "
                "Make the model for one size, such as keras.Input((224, 224, 3))."
            )
        return keras.KerasTensor((1, *x.shape[1:]), x.dtype)

    given = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    inputs = keras.tree.map_structure(single, given)
    root = _Call(model, [], {})
    with _watched(model, root):
        _Traced(functools.partial(model, training=False))(inputs)
    return root.children[-1]


class _Traced(keras.layers.Layer):
    """A layer whose shapes are found by a trace of a function."""

    def __init__(self, function):
        super().__init__(autocast=False)
        self._function = function

    def call(self, inputs):
        return self._function(inputs)


@contextlib.contextmanager
def _watched(model, root):
    """Notes the calls of all layers and operations of a model below `root`, by attributes that hide their methods."""
    layers = list(model._flatten_layers())
    layers += [operation for layer in layers for operation in getattr(layer, "operations", ())]
    # A wrapper computes with a view of the layer inside, which must keep its own methods.
    wrapped = {id(layer.layer) for layer in layers if isinstance(layer, KernelWrapper)}
    open_calls, hidden = [root], []
    try:
        for layer in {id(layer): layer for layer in layers if id(layer) not in wrapped}.values():
            name = "quantized_call" if getattr(layer, "quantization_mode", None) else "call"
            replacements = {name: _noted_call(layer, getattr(layer, name), open_calls)}
            if isinstance(layer, HornerLayer):
                replacements["_step"] = _noted_step(layer._step, open_calls)
            for name, noted in replacements.items():
                # Not through Keras's `__setattr__`, which may refuse or track it.
                vars(layer)[name] = noted
                hidden.append((layer, name))
        yield
    finally:
        for layer, name in hidden:
            del vars(layer)[name]


def _noted_call(layer, call, open_calls):
    def noted(*args, **kwargs):
        given = args if isinstance(layer, keras.layers.Layer) else (args, kwargs)
        now = _Call(layer, _tensors(given), kwargs)
        open_calls[-1].children.append(now)
        open_calls.append(now)
        outputs = call(*args, **kwargs)
        open_calls.pop()
        now.outputs = _tensors(outputs)
        return outputs

    return noted


def _noted_step(step, open_calls):
    def noted(n, factor, state, *others, **named_others):
        now = open_calls[-1]
        x = step(n, factor, state, *others, **named_others)
        now.steps.append(_Step(n, *_tensors([factor, state, x])))
        return x

    return noted


def _tensors(values):
    tensors = [x for x in keras.tree.flatten(values) if hasattr(x, "shape") and hasattr(x, "dtype")]
    return [_Tensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype), x) for x in tensors]


def _rows(call, prefix, base, counted):
    """Yields the rows of what a model calls whose input has the degree `base`, nothing if that is not its graph.

    `counted` has the layers whose parameters stand in a row already.
    """
    inputs_of_model = call.layer.inputs
    degrees = {id(x): base for x in inputs_of_model}
    for node, child in zip(_nodes(call) or (), call.children):
        layer, path = child.layer, f"{prefix}{child.layer.name}"
        inputs = [degrees.get(id(x)) for x in node.input_tensors]
        inside = ()
        if len(inputs) == 1 and isinstance(layer, keras.Model) and getattr(layer, "inputs", None):
            inside = tuple(_rows(child, f"{path}/", inputs[0], counted))
        degrees[id(node.outputs[0])] = _degree_at(inputs_of_model, node, base, inputs)
        yield from inside or [_row(child, node, path, degrees[id(node.outputs[0])], counted)]


def _nodes(call):
    """Returns the nodes of the graph of a model, one for each call in it, or `None` if it calls something else."""
    model = call.layer
    graph = keras.Model(model.inputs, model.outputs) if isinstance(model, keras.Sequential) else model
    by_depth = graph._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]
    own_call = not type(model).call.__module__.startswith("keras.")
    others = [id(node.operation) for node in nodes] != [id(child.layer) for child in call.children]
    return None if own_call or others else nodes


def _degree_at(inputs_of_model, node, base, inputs):
    """Returns the degree of what comes out of a node of a graph, or `None`."""
    if None in inputs:
        return None
    if len(inputs) == 1:
        own = _degree(node.operation)
        return None if own is None else inputs[0] * own
    whole = _degree(keras.Model(inputs_of_model, node.outputs[0]))
    return None if whole is None else base * whole


def _degree(layer):
    try:
        found = degree(layer)
    except ValueError:
        return None
    return found if isinstance(found, int) else None


def _row(call, node, path, reached, counted):
    layer = call.layer
    new = isinstance(layer, keras.layers.Layer) and id(layer) not in counted
    counted.add(id(layer))
    cost = _cost(call)
    multiply_adds, products = (None, None) if cost.multiplications is None else cost.multiplications
    return BlockSummary(
        layer=path,
        kind=type(layer).__name__,
        output_shape=tuple(node.outputs[0].shape),
        order=layer.order if isinstance(layer, (HornerLayer, ProdPoly)) else None,
        degree=reached,
        rank=layer.rank if isinstance(layer, Polynomial) else None,
        parameters=layer.count_params() if new else 0,
        multiply_adds=multiply_adds,
        products=products,
        activation_bytes=cost.activation_bytes,
    )


class _Cost(NamedTuple):
    """Multiply-adds and products, or `None` if they are unknown, and the size of what is computed."""

    multiplications: tuple[int, int] | None
    activation_bytes: int


def _cost(call):
    """Returns what a call costs, with the calls inside."""
    sizes = {id(x.value): x.bytes for x in _computed(call)}
    return _Cost(_multiplications(call), sum(sizes.values()))


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
    return None if _nodes(call) is None else (0, 0)


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
            "Abs",
            "Add",
            "Cast",
            "Concatenate",
            "ExpandDims",
            "GetItem",
            "Max",
            "Maximum",
            "Mean",
            "Min",
            "Minimum",
            "Negative",
            "Pad",
            "Relu",
            "Repeat",
            "Reshape",
            "Sigmoid",
            "Softmax",
            "Squeeze",
            "Stack",
            "Subtract",
            "Sum",
            "Tanh",
            "Transpose",
        ),
        _none,
    ),
    **dict.fromkeys(("Divide", "Multiply", "Square", "TrueDivide"), _each(1)),
    "Matmul": _matmul,
}
_RULES: dict = {
    **dict.fromkeys(
        (
            keras.layers.Activation,
            keras.layers.ActivityRegularization,
            keras.layers.Add,
            keras.layers.AlphaDropout,
            keras.layers.Average,
            keras.layers.AveragePooling1D,
            keras.layers.AveragePooling2D,
            keras.layers.AveragePooling3D,
            keras.layers.Concatenate,
            keras.layers.Cropping1D,
            keras.layers.Cropping2D,
            keras.layers.Cropping3D,
            keras.layers.Dropout,
            keras.layers.ELU,
            keras.layers.Embedding,
            keras.layers.Flatten,
            keras.layers.GaussianDropout,
            keras.layers.GaussianNoise,
            keras.layers.GlobalAveragePooling1D,
            keras.layers.GlobalAveragePooling2D,
            keras.layers.GlobalAveragePooling3D,
            keras.layers.GlobalMaxPooling1D,
            keras.layers.GlobalMaxPooling2D,
            keras.layers.GlobalMaxPooling3D,
            keras.layers.Identity,
            keras.layers.LeakyReLU,
            keras.layers.Masking,
            keras.layers.MaxPooling1D,
            keras.layers.MaxPooling2D,
            keras.layers.MaxPooling3D,
            keras.layers.Maximum,
            keras.layers.Minimum,
            keras.layers.PReLU,
            keras.layers.Permute,
            keras.layers.ReLU,
            keras.layers.RepeatVector,
            keras.layers.Reshape,
            keras.layers.Softmax,
            keras.layers.SpatialDropout1D,
            keras.layers.SpatialDropout2D,
            keras.layers.SpatialDropout3D,
            keras.layers.Subtract,
            keras.layers.UpSampling1D,
            keras.layers.UpSampling3D,
            keras.layers.ZeroPadding1D,
            keras.layers.ZeroPadding2D,
            keras.layers.ZeroPadding3D,
            LearnedConstant,
            NoiseInjection,
            ProdPoly,
            ProductOffset,
        ),
        _none,
    ),
    **dict.fromkeys(
        (
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
    # As Keras computes it: a square, and three with the inverse deviation that is multiplied with gamma first.
    keras.layers.LayerNormalization: _each(4),
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
