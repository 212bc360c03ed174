"""The layers within a model: where they are, and how to look on as they are called."""

import contextlib
import dataclasses
import re

import keras

from pinets_tf.layers.polynomial.horner import HornerLayer

# The names that polynomial layers give to what serves one order: operators, normalisations, vectors and gates.
_OF_ONE_ORDER = re.compile(r"(?:U|A|S|V|P|b|gate|normalize)_(\d+)")


@dataclasses.dataclass(frozen=True)
class Part:
    """A layer or operation within a model, what it is a direct part of, and the order that it serves there."""

    layer: keras.Operation
    path: str
    order: int | None = None
    parent: keras.Operation | None = None

    def order_of(self, name):
        """Returns the order that a part or weight of that name serves."""
        number = _OF_ONE_ORDER.fullmatch(name) if isinstance(self.layer, HornerLayer) else None
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
            inside = [*part.layer._flatten_layers(include_self=False, recursive=False)]
            inside += [*getattr(part.layer, "operations", ())]
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
    if not shapes and layer._inbound_nodes:
        shapes = [tensor.shape for tensor in layer._inbound_nodes[0].input_tensors]
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
    for part in model._flatten_layers():
        if isinstance(part, keras.Model) and not has_graph(part):
            raise ValueError(
                "Copies are made of functional and sequential models. "
                f"Received: {part.name} of type {type(part).__name__}, whose `call` is another one. "
                "Pass keras.Model(inputs, outputs)."
            )
    return keras.models.clone_model(model, clone_function=clone_function, recursive=True)


@contextlib.contextmanager
def methods_hidden(replacements):
    """Hides methods of layers for as long as the context lasts, by attributes of the layers with the same names.

    Args:
        replacements: pairs of a layer or operation and a dictionary from the name of a method to what hides it.
    """
    hidden = []
    try:
        for layer, methods in replacements:
            for name, method in methods.items():
                # Not through Keras's `__setattr__`, which may refuse or track it.
                vars(layer)[name] = method
                hidden.append((layer, name))
        yield
    finally:
        for layer, name in hidden:
            del vars(layer)[name]
