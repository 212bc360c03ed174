"""What a model calls, and of which shapes: a trace of a batch of one, with the layers inside of layers."""

import dataclasses
import functools
import math
import re
from typing import Any, NamedTuple

import keras

from pinets_tf.analysis.parts import methods_hidden
from pinets_tf.layers.generation.kernel_wrapper import KernelWrapper
from pinets_tf.layers.polynomial.horner import HornerLayer


class Tensor(NamedTuple):
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
class Call:
    """A call of a layer or operation, with the calls of the layers inside and what its recursion computed."""

    layer: keras.Operation
    inputs: list[Tensor]
    options: dict
    outputs: list[Tensor] = dataclasses.field(default_factory=list)
    children: list["Call"] = dataclasses.field(default_factory=list)
    steps: list["Step"] = dataclasses.field(default_factory=list)

    @property
    def x(self):
        return self.inputs[0]

    @property
    def y(self):
        return self.outputs[0]


class Step(NamedTuple):
    """A step x_n of a polynomial layer, as it was computed."""

    n: int
    factor: Tensor
    state: Tensor
    x: Tensor


def traced(model):
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
    root = Call(model, [], {})
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


def _watched(model, root):
    """Returns a context that notes the calls of all layers and operations of a model below `root`."""
    layers = list(model._flatten_layers())
    layers += [operation for layer in layers for operation in getattr(layer, "operations", ())]
    # A wrapper computes with a view of the layer inside, which must keep its own methods.
    wrapped = {id(layer.layer) for layer in layers if isinstance(layer, KernelWrapper)}
    watched = {id(layer): layer for layer in layers if id(layer) not in wrapped}.values()
    open_calls = [root]
    return methods_hidden([(layer, _noting(layer, open_calls)) for layer in watched])


def _noting(layer, open_calls):
    name = "quantized_call" if getattr(layer, "quantization_mode", None) else "call"
    methods = {name: _noted_call(layer, getattr(layer, name), open_calls)}
    if isinstance(layer, HornerLayer):
        methods["_step"] = _noted_step(layer._step, open_calls)
    return methods


def _noted_call(layer, call, open_calls):
    def noted(*args, **kwargs):
        given = args if isinstance(layer, keras.layers.Layer) else (args, kwargs)
        now = Call(layer, _tensors(given), kwargs)
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
        now.steps.append(Step(n, *_tensors([factor, state, x])))
        return x

    return noted


def _tensors(values):
    tensors = [x for x in keras.tree.flatten(values) if hasattr(x, "shape") and hasattr(x, "dtype")]
    return [Tensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype), x) for x in tensors]


def nodes(call):
    """Returns the nodes of the graph of a model, one for each call in it, or `None` if it calls something else."""
    model = call.layer
    graph = keras.Model(model.inputs, model.outputs) if isinstance(model, keras.Sequential) else model
    by_depth = graph._nodes_by_depth
    found = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth] if not node.is_input]
    own_call = not type(model).call.__module__.startswith("keras.")
    others = [id(node.operation) for node in found] != [id(child.layer) for child in call.children]
    return None if own_call or others else found
