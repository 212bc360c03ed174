"""What the package takes of Keras's private interface, under names of its own; no other file touches that."""

import contextlib
from typing import Any, NamedTuple

import keras
from keras.src.backend import compute_output_spec


class History(NamedTuple):
    """Where a symbolic tensor comes from: an operation, the node of the graph that called it, and which output it is.

    Nodes have `operation`, `input_tensors`, `output_tensors`, `arguments` and `is_input`.
    """

    operation: Any
    node: Any
    output: int


def flatten_layers(layer, include_self=True):
    """Returns a layer, or model, and all layers inside it, each once, those in a layer right after it."""
    return layer._flatten_layers(include_self=include_self)


def own_layers(layer):
    """Returns the layers directly inside a layer or model, each once."""
    return layer._flatten_layers(include_self=False, recursive=False)


def inbound_nodes(operation):
    """Returns the nodes of all graphs that call a layer or operation, in the order of the calls."""
    return operation._inbound_nodes


def history(tensor):
    """Returns the `History` of a symbolic tensor."""
    operation, number, output = tensor._keras_history
    return History(operation, operation._inbound_nodes[number], output)


def nodes_in_order(model):
    """Returns the nodes of the graph of a functional model, each after those that it depends on."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def own_variables(layer):
    """Returns the weights of a layer without those of the layers inside, trainable ones first; none of an operation."""
    return [*getattr(layer, "_trainable_variables", ()), *getattr(layer, "_non_trainable_variables", ())]


def seed_generators(layer):
    """Returns the random generators of a layer without those of the layers inside."""
    return layer._seed_generators


def stored_value(variable):
    """Returns the value of a variable as it is stored, also where a layer would read it cast."""
    return variable._value


def is_cast(variable):
    """Returns whether layers of lower precision read a variable cast to their type."""
    return variable._autocast


def never_cast(variable):
    """Lets layers of lower precision read a variable as it is stored."""
    variable._autocast = False


def track(layer, part, name):
    """Makes a layer or variable known to TensorFlow as a part of a layer; does nothing on other backends."""
    if hasattr(layer, "_track_trackable"):
        layer._track_trackable(part, name, overwrite=True)


def has_weight_decay(optimizer, variable):
    """Returns whether the weight decay of an optimizer applies to a variable, which may be excluded."""
    return optimizer._use_weight_decay(variable)


def variable_index(optimizer, variable):
    """Returns the place of a variable in lists such as the momentums of an optimizer."""
    return optimizer._get_variable_index(variable)


def output_spec(function, *tensors):
    """Returns the symbolic tensors that a function of tensors returns for symbolic ones; nothing is computed."""
    return compute_output_spec(function, *tensors)


@contextlib.contextmanager
def calls_seen_by(observer):
    """Shows an observer what each layer and operation is called with, for as long as the context lasts.

    Args:
        observer: a function that gets the layer, a function that computes the call, and its arguments as they reach
            `call`, cast to the type of the layer; it returns what the call returns.
    """
    call = keras.Operation.__call__
    # On the class: a layer keeps its own methods.
    keras.Operation.__call__ = lambda layer, *args, **kwargs: observer(
        layer, lambda *args, **kwargs: call(layer, *args, **kwargs), args, kwargs
    )
    try:
        yield
    finally:
        keras.Operation.__call__ = call
