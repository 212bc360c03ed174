"""The graph of a model as a value: its nodes in the order of computation, and the layers in it with their paths."""

import dataclasses
import re
from typing import Any

import keras

from pinets_tf import _keras

# The names that polynomial layers give to what serves one order: maps, normalisations, vectors and gates.
_OF_ONE_ORDER = re.compile(r"[A-Za-z]+_(\d+)")


@dataclasses.dataclass(frozen=True)
class Node:
    """A call of a layer or operation in a graph.

    Args:
        operation: what is called.
        sources: the keys of the values that it is called with.
        outputs: the keys of those that it returns.
        node: that of Keras, or `None` in a sequential model.
    """

    operation: keras.Operation
    sources: tuple
    outputs: tuple
    node: Any = None

    def arguments(self, values):
        """Returns the positional and named arguments of the call with other tensors."""
        if self.node is None:
            return values, {}
        # What is not among the sources is a mask.
        left = iter(values)
        arguments = (self.node.arguments.args, self.node.arguments.kwargs)
        return keras.tree.map_structure(
            lambda x: next(left, None) if isinstance(x, keras.KerasTensor) else x, arguments
        )

    def call(self, *values):
        """Returns what the call returns for other tensors."""
        args, kwargs = self.arguments(values)
        return self.operation(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class ModelGraph:
    """What a functional or sequential model computes; values are known by keys.

    Args:
        inputs, outputs: the keys of those of the model.
        nodes: the calls, each after those that it depends on.
    """

    inputs: tuple
    outputs: tuple
    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, model):
        """Returns that of a model of which `has_graph` is true."""
        if isinstance(model, keras.Sequential):
            chain = tuple(Node(layer, (n,), (n + 1,)) for n, layer in enumerate(model.layers))
            return cls((0,), (len(chain),), chain)
        nodes: list[Node] = []
        needed = set(_keys(model.outputs))
        for node in reversed(graph_nodes(model)):
            outputs = _keys(node.output_tensors)
            # Others compute masks.
            if not needed.isdisjoint(outputs):
                nodes.append(Node(node.operation, _keys(sources_of(node)), outputs, node))
                needed.update(nodes[-1].sources)
        return cls(_keys(model.inputs), _keys(model.outputs), tuple(reversed(nodes)))


def sources_of(node):
    """Returns the symbolic tensors that a node of a graph is called with, for a model in the order of its inputs.

    Those of a mask are none of them.
    """
    if not has_graph(node.operation):
        masks = set(map(id, keras.tree.flatten(node.arguments.kwargs.get("mask"))))
        return [x for x in node.input_tensors if id(x) not in masks]
    args, kwargs = node.arguments.args, node.arguments.kwargs
    given = in_order(node.operation, args[0] if args else kwargs.get("inputs"))
    return given if all(isinstance(x, keras.KerasTensor) for x in given) else node.input_tensors


def _keys(tensors):
    return tuple(map(id, tensors))


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer or operation within a model, what it is a direct part of, and the order that it serves there."""

    layer: keras.Operation
    path: str
    order: int | None = None
    parent: keras.Operation | None = None

    def order_of(self, name):
        """Returns the order that a part or weight of that name serves."""
        number = _OF_ONE_ORDER.fullmatch(name) if hasattr(self.layer, "steps") else None
        return self.order if number is None else int(number[1])


def parts_of(model):
    """Yields every layer and operation of a model once, each before its own parts."""
    todo, seen = [Part(model, model.name)], set()
    while todo:
        part = todo.pop()
        if id(part.layer) in seen:
            continue
        seen.add(id(part.layer))
        yield part
        inside = []
        if isinstance(part.layer, keras.layers.Layer):
            # A functional model has operations that are no layers.
            inside = [*_keras.own_layers(part.layer), *getattr(part.layer, "operations", ())]
        is_root_model = part.layer is model and isinstance(model, keras.Model)
        prefix = "" if is_root_model else f"{part.path}/"
        todo += [Part(x, prefix + x.name, part.order_of(x.name), part.layer) for x in reversed(inside)]


def paths(model):
    """Returns the path within a model of each layer and operation in it, by their identity."""
    return {id(part.layer): part.path for part in parts_of(model)}


def has_graph(model):
    """Returns whether a layer is a model that computes what its graph says, and nothing else."""
    functional = getattr(model, "outputs", None) or isinstance(model, keras.Sequential)
    return isinstance(model, keras.Model) and bool(functional) and type(model).call.__module__.startswith("keras.")


def in_order(model, inputs):
    """Returns what a layer or model is called with in a flat list, in the order of `model.inputs`."""
    if isinstance(inputs, dict) and getattr(model, "inputs", None) and not isinstance(model, keras.Sequential):
        by_name = isinstance(model.input, dict)
        names = sorted(model.input) if by_name else [x.name for x in model.inputs]
        if inputs.keys() >= set(names):
            return keras.tree.flatten([inputs[name] for name in names])
    return keras.tree.flatten(inputs)


def input_shapes(layer):
    """Returns the shape of each input of a layer or model with a batch of `None`, in a flat list.

    It is empty for a layer that was never built or called.
    """
    if getattr(layer, "inputs", None):
        return [tuple(tensor.shape) for tensor in layer.inputs]
    config = (layer.get_build_config() or {}) if layer.built else {}
    shapes = config.get("input_shape", [*config.get("shapes_dict", {}).values()])
    nodes = _keras.inbound_nodes(layer)
    if not shapes and nodes:
        shapes = [tensor.shape for tensor in nodes[0].input_tensors]
    several = not all(size is None or isinstance(size, int) for size in shapes)
    return [(None, *shape[1:]) for shape in (shapes if several or not shapes else [shapes])]


def copy_of(layer, **changes):
    """Returns a new layer or operation made from the config of another one, with some entries changed.

    It raises a `ValueError` for one that cannot be made.
    """
    try:
        return type(layer).from_config({**layer.get_config(), **changes})
    except Exception as error:  # Whatever a layer raises that is made from a config which lacks something.
        raise ValueError(
            "A model is copied layer by layer, by their configs. "
            f"Received: the layer {layer.name} of type {type(layer).__name__}, which cannot be made from its own. "
            "Give it `get_config` and `from_config`."
        ) from error


def copied_graph(model, clone_function=copy_of):
    """Returns a copy of a model and of those in it, without their weights.

    It raises a `ValueError` where a layer cannot be copied, or a model computes something else than its graph.
    """
    for part in _keras.flatten_layers(model):
        if isinstance(part, keras.Model) and not has_graph(part):
            raise ValueError(
                "Copies are made of functional and sequential models. "
                f"Received: {part.name} of type {type(part).__name__}, whose `call` is another one. "
                "Pass keras.Model(inputs, outputs)."
            )
    return keras.models.clone_model(model, clone_function=clone_function, recursive=True)


def graph_nodes(model):
    """Returns the nodes of the graph of a functional or sequential model, each before those that take its outputs."""
    graph = _functional(model) if isinstance(model, keras.Sequential) else model
    return [node for node in _keras.nodes_in_order(graph) if not node.is_input]


def rewritten_graph(model, clone_function, call_function):
    """Returns a functional model, not compiled, of the same name, inputs and outputs as a functional or sequential one.

    Args:
        model: it is left as it is; models in it are layers here.
        clone_function: returns what is called for a layer or operation.
        call_function: calls that with the arguments after it, and returns the outputs.
    """
    graph = _functional(model)
    # With the names of the inputs, for which Keras 3.15 takes those of the tensors.
    inputs = keras.tree.map_structure(_new_input, graph.input)
    return keras.models.clone_model(graph, inputs, clone_function=clone_function, call_function=call_function)


def _functional(model):
    # Around the same graph, since sequential models cannot be rewritten, and so not compiled.
    sequential = isinstance(model, keras.Sequential)
    ends = (model.inputs[0], model.outputs[0]) if sequential else (model.input, model.output)
    return keras.Model(*ends, name=model.name)


def _new_input(tensor):
    layer = _keras.history(tensor).operation
    return type(layer).from_config(layer.get_config()).output
