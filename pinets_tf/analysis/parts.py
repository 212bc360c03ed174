"""The layers within a model: where they are, and how to look on as they are called."""

import contextlib
import dataclasses
import re

import keras

from pinets_tf.layers.horner import HornerLayer

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
