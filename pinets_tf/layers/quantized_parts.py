"""The dtype policies that quantisation gave to layers inside of another, in its config.

`quantize` changes the policies of linear maps alone, layer by layer. Keras's `DTypePolicyMap` names them by their
paths, which are others in a copy of another name, and a layer hands on what the map says of itself, not the map.
"""

import keras

from pinets_tf import _keras


def policies_inside(layer):
    """Returns the serialised policies inside each part of a layer that has quantised ones, by the name of the part."""
    inside = {part.name: _computing(part) for part in _keras.own_layers(layer)}
    return {
        name: [keras.dtype_policies.serialize(part.dtype_policy) for part in parts]
        for name, parts in inside.items()
        if any(part.quantization_mode for part in parts)
    }


def restore_policies(parts, policies):
    """Gives parts of a layer that were quantised when it was saved their policies again."""
    for part in parts:
        for inner, policy in zip(_computing(part), policies.get(part.name, ())):
            inner.dtype_policy = keras.dtype_policies.get(policy)


def _computing(part):
    """Returns the layers in and below `part`, without the inputs that a model of layers gets as it is built."""
    return [layer for layer in _keras.flatten_layers(part) if not isinstance(layer, keras.layers.InputLayer)]
