"""What each block of a model is and what it costs: order, degree, rank, parameters, multiplications, memory."""

import dataclasses
import math

import keras

from pinets_tf.analysis.costs import Costs
from pinets_tf.analysis.degree import Degrees, degree
from pinets_tf.analysis.kinds import stated_by_class
from pinets_tf.analysis.model_graph import has_graph

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
        parameters: the numbers in its weights, also those that are not trained, but for those that stand in a row
            before: a layer that is called twice is counted where it is called first.
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

    A model within the model is shown with its own layers. What is not known to this function, such as a
    recurrent layer or one of yours, has its parameters counted and `None` (as a text, "unknown") for its
    multiplications. A layer of yours says what it takes by a method `multiply_adds(input_shape)`, which gets the shape
    of its input with a batch of one, or a list of shapes, and returns a number, or a pair of
    the multiply-adds and the products.

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
    if not has_graph(model) or not getattr(model, "inputs", None):
        reason = "whose `call` does something else" if getattr(model, "inputs", None) else "which has none"
        raise ValueError(
            "The blocks of a model are those of the graph of a functional or sequential model. "
            f"Received: {model!r}, {reason}. Pass keras.Model(inputs, outputs)."
        )
    rows = tuple(_rows(model, "", [1] * len(model.inputs), _samples(model), set()))
    total = BlockSummary(
        layer=model.name,
        kind=type(model).__name__,
        output_shape=tuple(model.outputs[0].shape),
        order=None,
        degree=degree(model) if len(model.outputs) == 1 else None,
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


def _samples(model):
    """Returns symbolic inputs of a batch of one."""
    for x in model.inputs:
        if None in x.shape[1:]:
            raise ValueError(
                "What a model costs depends on all sizes of its inputs but the batch. "
                f"Received: the input {x.name} of {model.name}, of shape {tuple(x.shape)}. "
                "Make the model for one size, such as keras.Input((224, 224, 3))."
            )
    return [keras.KerasTensor((1, *x.shape[1:]), x.dtype) for x in model.inputs]


def _rows(model, prefix, degrees, samples, counted):
    """Yields the rows of what a model calls whose inputs have these degrees and samples.

    `counted` has the weights that stand in a row already.
    """
    on_degrees = Degrees()
    graph = on_degrees.graph_of(model)
    known, sizes = dict(zip(graph.inputs, degrees)), dict(zip(graph.inputs, samples))
    for call, given, reached in on_degrees.calls(graph, known):
        costs, inputs = Costs(), [sizes[key] for key in call.sources]
        outputs = costs.outputs(call.operation, inputs, call)
        sizes |= dict(zip(call.outputs, outputs))
        path = f"{prefix}{call.operation.name}"
        if has_graph(call.operation) and getattr(call.operation, "inputs", None):
            yield from _rows(call.operation, f"{path}/", given, inputs, counted)
        else:
            yield _row(call.operation, costs, path, reached[0], outputs[0], counted)


def _row(layer, costs, path, reached, output, counted):
    new = {id(weight): weight for weight in getattr(layer, "weights", ()) if id(weight) not in counted}
    counted.update(new)
    is_polynomial = stated_by_class(layer) == "polynomial"
    return BlockSummary(
        layer=path,
        kind=type(layer).__name__,
        output_shape=(None, *output.shape[1:]),
        order=getattr(layer, "order", None) if is_polynomial else None,
        degree=reached if isinstance(reached, int) else None,
        rank=getattr(layer, "rank", None) if is_polynomial else None,
        parameters=sum(math.prod(weight.shape) for weight in new.values()),
        multiply_adds=costs.multiply_adds,
        products=costs.products,
        activation_bytes=costs.activation_bytes,
    )
