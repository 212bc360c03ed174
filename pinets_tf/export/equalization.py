"""Channels of a TFLite model rescaled to more equal ranges, without changing what it computes."""

import copy
from typing import Any

import numpy as np

from pinets_tf.export.runtime import all_tensors, interpreter, litert_quantizer

# How much exponents themselves are held small, so that no weight grows for nothing.
_HELD = 0.05
# Activations of linear maps and sums with which a positive factor changes places: none, ReLU.
_HOMOGENEOUS = (0, 1)


def equalize(content, inputs, batch_size=16):
    """Returns a TFLite model that computes the same, and whose tensors have channels of more equal ranges.

    Eight bits give all channels of a tensor one range, so that those with small values have few steps. In a product
    a * b a channel of one factor may be multiplied with s and that of the other with 1 / s, and in general

        y = a * b          s_y = s_a s_b
        y = a + b          s_y = s_a = s_b
        y = W a + c        W becomes diag(s_y) W diag(1 / s_a), c becomes s_y c, for any s_y
        y = scale * a      scale becomes s_y / s_a scale, for any s_y,

    with factors s = 2^e of each channel, those of inputs and outputs being 1. All e are those for which the greatest
    values of all channels of all tensors differ least, in the sense of least squares of their logarithms; sums and
    products make that one linear problem for each number of channels.

    Args:
        content: a float32 TFLite model, as bytes.
        inputs: inputs (n, ...) that show how large values are.
        batch_size: of how many at a time.

    Returns:
        Bytes. A model without linear maps, or of other operators alone, comes back as it was.

    Raises:
        ImportError: if litert-quantizer or ai-edge-litert is missing.
        ValueError: if `content` is no TFLite model.

    Source: ours; between two linear maps it is Nagel et al., "Data-Free Quantization Through Weight Equalization and
    Bias Correction", ICCV 2019.
    """
    *_, tfl_flatbuffer_utils = litert_quantizer()
    interpreter(content)  # Which says in words that it is no model.
    from ai_edge_litert.tools import flatbuffer_utils

    model = tfl_flatbuffer_utils.read_model(content)
    graph = _Graph(model, {code: name.value for name, code in tfl_flatbuffer_utils.TFL_OP_NAME_TO_CODE.items()})
    exponents = graph.solve(_greatest(content, inputs, batch_size))
    graph.rescale(exponents)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _greatest(content, inputs, batch_size):
    """Returns the greatest absolute value of each channel of each tensor, by the name of the tensor."""
    greatest: dict[str, np.ndarray] = {}
    for first in range(0, len(inputs), batch_size):
        for name, values in all_tensors(content, inputs[first : first + batch_size]):
            if values.ndim > 1:
                most = np.abs(values).reshape(-1, values.shape[-1]).max(0)
                greatest[name] = np.maximum(greatest.get(name, 0), most)
    return greatest


class _Graph:
    """The operators of a model, and the exponents of their tensors as sums of exponents that may be chosen.

    A tensor of `self.sums` has the exponents sum of coefficient * chosen exponents; an empty sum is zero.
    """

    def __init__(self, model, names):
        self.model, self.graph = model, model.subgraphs[0]
        self.sums: dict[int, dict[int, float]] = {tensor: {} for tensor in self.graph.inputs}
        self.channels: list[int] = []
        self.equal: list[tuple[dict, dict]] = []
        self.rewritten: list[tuple[str, Any]] = []
        for operator in self.graph.operators:
            self._add(names.get(model.operatorCodes[operator.opcodeIndex].builtinCode), operator)
        for tensor in self.graph.outputs:
            self._fix(tensor)

    def solve(self, greatest):
        """Returns the exponents of each tensor, by its number."""
        chosen = [np.zeros(channels) for channels in self.channels]
        for channels in set(self.channels):
            columns = {free: column for column, free in enumerate(np.flatnonzero(np.array(self.channels) == channels))}

            def row(terms, columns=columns):
                values = np.zeros(len(columns))
                for free, coefficient in terms.items():
                    values[columns[free]] = coefficient
                return values

            rows, logarithms = [], []
            for tensor, terms in self.sums.items():
                most = greatest.get(self._name(tensor))
                if terms and most is not None and next(iter(terms)) in columns and most.max() > 0:
                    rows.append(row(terms))
                    # A channel that is always zero has no range.
                    logarithm = np.log2(np.maximum(most, 1e-6 * most.max()))
                    logarithms.append(logarithm - logarithm.mean())
            if not rows:
                continue
            ties = [row(a) - row(b) for a, b in self.equal if (a or b) and next(iter(a or b)) in columns]
            free = _null_space(np.array(ties).reshape(-1, len(columns)))
            matrix = np.array(rows) @ free
            normal = matrix.T @ matrix + _HELD * np.eye(free.shape[1])
            solution = free @ np.linalg.solve(normal, -matrix.T @ np.array(logarithms))
            for number, column in columns.items():
                chosen[number] = solution[column]
        return {
            tensor: sum((coefficient * chosen[free] for free, coefficient in terms.items()), np.zeros(1))
            for tensor, terms in self.sums.items()
        }

    def rescale(self, exponents):
        """Changes the constants of the model, so that its tensors get factors of 2^exponents."""
        for kind, operator in self.rewritten:
            result = 2.0 ** exponents[operator.outputs[0]]
            first, second = operator.inputs[:2]
            if kind in ("MUL", "ADD"):
                place = 0 if self._constant(first) is not None else 1
                factor = result / 2.0 ** exponents[second if place == 0 else first] if kind == "MUL" else result
                self._replace(operator, place, lambda old, factor=factor: old * factor)
                continue
            source = 2.0 ** exponents[first]
            if kind == "DEPTHWISE_CONV_2D":
                self._replace(operator, 1, lambda old, factor=result / source: old * factor)
            else:
                # Of a matrix (outputs, inputs), of a kernel (outputs, height, width, inputs).
                def both(old, result=result, source=source):
                    outputs = np.broadcast_to(result, old.shape[:1]).reshape(-1, *[1] * (old.ndim - 1))
                    return old * outputs / np.broadcast_to(source, old.shape[-1:])

                self._replace(operator, 1, both)
            if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
                self._replace(operator, 2, lambda old, factor=result: old * factor)

    def _add(self, kind, operator):
        sources = [tensor for tensor in operator.inputs if tensor >= 0]
        result = operator.outputs[0]
        constants = [self._constant(tensor) is not None for tensor in sources]
        activation = getattr(operator.builtinOptions, "fusedActivationFunction", 0)
        same_channels = len({self._size(tensor) for tensor in (*sources, result)}) == 1
        if activation not in _HOMOGENEOUS or self._size(result) is None:
            kind = None
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED") and all(constants[1:]) and not constants[0]:
            # A depthwise map that makes several channels of one has no factor for each.
            if kind == "DEPTHWISE_CONV_2D" and self._size(sources[0]) != self._size(result):
                self._fix(sources[0])
            self._choose(kind, operator)
        elif kind == "MUL" and len(sources) == 2 and not any(constants) and same_channels:
            first, second = (self.sums[tensor] for tensor in sources)
            keys = first.keys() | second.keys()
            self.sums[result] = {key: first.get(key, 0.0) + second.get(key, 0.0) for key in keys}
        elif kind == "MUL" and sum(constants) == 1:
            self._choose(kind, operator)
        elif kind in ("ADD", "SUB") and not any(constants) and same_channels:
            self.equal.append((self.sums[sources[0]], self.sums[sources[1]]))
            self.sums[result] = self.sums[sources[0]]
        elif kind in ("ADD", "SUB") and sum(constants) == 1:
            self.sums[result] = self.sums[sources[constants.index(False)]]
            self.rewritten.append(("ADD", operator))
        elif kind in ("MEAN", "AVERAGE_POOL_2D", "RELU") and self._size(sources[0]) == self._size(result):
            self.sums[result] = self.sums[sources[0]]
        else:
            for tensor in sources:
                self._fix(tensor)
            for tensor in operator.outputs:
                self.sums[tensor] = {}

    def _choose(self, kind, operator):
        """Lets the exponents of a result be chosen."""
        result = operator.outputs[0]
        self.sums[result] = {len(self.channels): 1.0}
        self.channels.append(self._size(result))
        self.rewritten.append((kind, operator))

    def _fix(self, tensor):
        """Makes the exponents of a tensor zero."""
        if self.sums.get(tensor):
            self.equal.append((self.sums[tensor], {}))

    def _name(self, tensor):
        return self.graph.tensors[tensor].name.decode()

    def _size(self, tensor):
        """Returns how many channels a tensor has."""
        shape = self.graph.tensors[tensor].shape
        return int(shape[-1]) if shape is not None and len(shape) > 1 else None

    def _constant(self, tensor):
        data = self.model.buffers[self.graph.tensors[tensor].buffer].data
        return data if data is not None and len(data) else None

    def _replace(self, operator, place, change):
        """Gives an operator a changed constant, which it alone has."""
        number = operator.inputs[place]
        tensor = self.graph.tensors[number]
        old = np.frombuffer(bytes(self._constant(number)), "float32").reshape(tensor.shape)
        new = change(old).astype("float32")
        users = sum(np.count_nonzero(np.equal(one.inputs, number)) for one in self.graph.operators)
        if users > 1 or sum(one.buffer == tensor.buffer for one in self.graph.tensors) > 1:
            tensor = copy.copy(tensor)
            tensor.name = f"{self._name(number)}_{len(self.graph.tensors)}".encode()
            operator.inputs[place] = len(self.graph.tensors)
            self.graph.tensors.append(tensor)
            self.model.buffers.append(copy.copy(self.model.buffers[tensor.buffer]))
            tensor.buffer = len(self.model.buffers) - 1
        self.model.buffers[tensor.buffer].data = np.frombuffer(new.tobytes(), "uint8")
        tensor.shape, tensor.shapeSignature = np.array(new.shape, "int32"), None


def _null_space(matrix):
    """Returns an orthonormal basis of all x with matrix @ x = 0, as columns."""
    if not len(matrix):
        return np.eye(matrix.shape[1])
    _, values, rows = np.linalg.svd(matrix)
    return rows[int((values > 1e-9).sum()) :].T
