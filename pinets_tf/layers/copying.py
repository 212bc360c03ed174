"""Layers made from layers: independent copies, restored configs, policies handed down."""

import collections
import inspect
import re
import zlib

import keras
from keras import ops

from pinets_tf._keras import flatten_layers, own_layers, own_variables


def copy_layer(layer, name, dtype, **overrides):
    """Returns a new, unbuilt layer made from `layer`'s config.

    Integer seeds in the config (of initializers, dropout, ...) are replaced by seeds derived from the old seed and
    `name`: the copy of a seeded layer repeats from run to run, and still differs from every other copy.

    Args:
        layer: a Keras layer with a complete `get_config`.
        name: the name of the copy.
        dtype: the dtype policy of the copy and of every layer inside it.
        **overrides: entries that replace those of the config.

    Raises:
        ValueError: if the layer cannot be made from its config.
    """
    try:
        config = _derive(layer.get_config(), name, dtype)
        config.update(overrides, name=name, dtype=dtype)
        return type(layer).from_config(config)
    except Exception as error:
        # Layers of users raise what they like.
        if isinstance(error, ValueError) and "Received:" in str(error):
            raise
        raise ValueError(
            "A layer that is copied must be made again by `from_config` from what its `get_config` returns. "
            f"Received: {layer!r} of type {type(layer).__name__}, which cannot be made again. "
            "Give it a complete `get_config`, or pass another layer, such as Dense or Conv2D."
        ) from error


def copy_initializer(initializer, name):
    """Returns an initializer like `initializer` that draws other values than every other copy.

    An initializer object draws the same values each time it is called, so one object must not serve two factors.
    """
    initializer = keras.initializers.get(initializer)
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return type(initializer).from_config(_derive(initializer.get_config(), name))


def uses_default_kernel_initializer(layer):
    """Whether `layer` has a `kernel_initializer` and it is the one its class falls back to."""
    own = getattr(layer, "kernel_initializer", None)
    parameter = inspect.signature(type(layer).__init__).parameters.get("kernel_initializer")
    if not isinstance(own, keras.initializers.Initializer) or parameter is None:
        return False
    default = keras.initializers.get(parameter.default)
    return type(own) is type(default) and own.get_config() == default.get_config()


def deserialize_layers(config):
    """Returns `config` with every serialised layer, alone or in a list, made a layer again."""

    def restore(value):
        if isinstance(value, dict) and "class_name" in value and "config" in value:
            restored = keras.saving.deserialize_keras_object(value)
            return restored if isinstance(restored, keras.layers.Layer) else value
        return [restore(item) for item in value] if isinstance(value, list) else value

    return {key: restore(value) for key, value in config.items()}


def hand_down_policy(policy, layers):
    """Gives every layer in and below `layers` that has no weights yet the dtype policy `policy`."""
    for layer in layers:
        for inner in flatten_layers(layer):
            # Keras builds what has no weights as it is made.
            if not inner.built or not inner.weights:
                inner.dtype_policy = policy


def restore_with_policy(from_config, config):
    """Makes a layer around others from its config, and leaves these others the policies they were saved with."""
    config = dict(config)
    policy = config.pop("dtype")
    layer = from_config(config)
    layer.dtype_policy = keras.dtype_policies.get(policy)
    return layer


def _derive(config, name, dtype=None):
    """Copies a config, with seeds derived from `name` and, for every layer inside it, the dtype policy `dtype`."""
    if isinstance(config, (list, tuple)):
        return type(config)(_derive(item, name, dtype) for item in config)
    if not isinstance(config, dict):
        return config
    # While a model is loaded, Keras gives all copies of one `shared_object_id` one and the same layer.
    items = ((key, value) for key, value in config.items() if key != "shared_object_id")
    derived = {key: _derive(value, name, dtype) for key, value in items}
    seed = derived.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool):
        # Below 2^31, which is what a seed of Keras may be on PyTorch.
        derived["seed"] = zlib.crc32(f"{seed}/{name}".encode()) >> 1
    if dtype is not None and {"name", "dtype"} <= derived.keys():
        derived["dtype"] = keras.saving.serialize_keras_object(dtype)
    return derived


def copy_weights(new, old, leave=()):
    """Gives a layer or model the weights of another one of the same structure.

    Args:
        new: what gets them.
        old: what has them. LoRA adapters are merged where `new` has none.
        leave: layers and weights of either that are left out.

    It raises a `ValueError` if the two are of different structures.
    """
    # Either all weights are copied or none.
    for weight, value in list(paired_weights(new, old, leave)):
        # On JAX they would share an array, which is deleted when one of them is trained.
        weight.assign(ops.copy(value))
    for copy, source in paired_layers(new, old, leave):
        if getattr(copy, "lora_enabled", False):
            # Which `Dense` and `Embedding` do not restore (Keras 3.15).
            copy.lora_alpha = source.lora_alpha
    renew_normalizations(new)


def paired_weights(new, old, leave=()):
    """Yields each weight of `new` with the weight of `old` that serves the same, or its value with LoRA merged."""
    left = set(map(id, leave))
    for copy, source in paired_layers(new, old, leave):
        weights, values = (
            {k: w for k, w in _own_weights(layer).items() if id(w) not in left} for layer in (copy, source)
        )
        if getattr(source, "lora_enabled", False) and not getattr(copy, "lora_enabled", False):
            values = _merged(source, values)
        if {k: tuple(w.shape) for k, w in weights.items()} != {k: tuple(w.shape) for k, w in values.items()}:
            raise ValueError(
                "Weights are copied between layers that have the same ones. "
                f"Received: the layer {source.name} of type {type(source).__name__} with {_described(values)}, and a "
                f"copy of it with {_described(weights)}. Give the layer a complete `get_config`."
            )
        yield from ((weight, values[key]) for key, weight in weights.items())


def paired_layers(new, old, leave=()):
    """Yields two layers or models of the same structure, and the layers inside them that compute, in pairs."""
    yield new, old
    inside = [_inside(layer, leave) for layer in (new, old)]
    if not any(inside):
        return
    named = {layer.name: layer for layer in inside[1]}
    if len(named) == len(inside[1]) and named.keys() == {layer.name for layer in inside[0]}:
        # One layer in two places may have become two layers.
        pairs = [(layer, named[layer.name]) for layer in inside[0]]
    elif len(inside[0]) == len(inside[1]):
        pairs = list(zip(*inside))
    else:
        raise ValueError(
            "Weights are copied between layers that hold the same layers. "
            f"Received: {old.name} of type {type(old).__name__} with {_names(inside[1])}, and a copy of it with "
            f"{_names(inside[0])}. Give the layer a complete `get_config`, and layers of its own to each part."
        )
    for pair in pairs:
        yield from paired_layers(*pair, leave)


def _inside(layer, leave):
    """Returns the layers directly inside a layer or model that have weights."""
    inside = layer.layers if isinstance(layer, keras.Model) else own_layers(layer)
    return [x for x in inside if x.variables and not any(x is left for left in leave)]


def _own_weights(layer):
    """Returns the weights of a layer without those of the layers inside, by name and number."""
    named: dict = {}
    numbers: collections.Counter = collections.Counter()
    for weight in own_variables(layer):
        # Keras numbers weights without a name through all layers.
        name = re.sub(r"^variable_\d+$", "variable", weight.name)
        named[name, numbers[name]] = weight
        numbers[name] += 1
    return named


def _merged(layer, weights):
    """Returns the weights of a layer with W + (alpha / rank) A B in the place of W, A and B, those of LoRA."""
    if layer.quantization_mode:
        raise ValueError(
            "LoRA adapters are merged into kernels that are not quantised. "
            f"Received: the layer {layer.name} with LoRA and quantization_mode={layer.quantization_mode!r}. "
            "Save the model and load it again first, which merges them."
        )
    what = "kernel" if ("kernel", 0) in weights else "embeddings"
    A, B = (weights.pop((f"lora_{what}_{letter}", 0)) for letter in "ab")
    W = weights[what, 0]
    update = ops.matmul(A, B) * (layer.lora_alpha / layer.lora_rank)
    return {**weights, (what, 0): ops.add(W, ops.cast(update, W.dtype))}


def _described(weights):
    return ", ".join(f"{name} {tuple(weight.shape)}" for (name, _), weight in weights.items()) or "no weights"


def _names(layers):
    return ", ".join(layer.name for layer in layers) or "no layers"


def renew_normalizations(layer):
    """Makes every `Normalization` in a layer compute with the weights that it has been given.

    What one adapted to are weights, of which it computes with copies.
    """
    for part in flatten_layers(layer):
        if isinstance(part, keras.layers.Normalization) and part.built:
            part.finalize_state()
