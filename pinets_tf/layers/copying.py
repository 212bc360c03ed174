"""Layers made from layers: independent copies, restored configs, policies handed down."""

import inspect
import zlib

import keras


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
        for inner in layer._flatten_layers():
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


def copy_weights(new, old):
    """Gives a layer or model the weights of another one that is like it."""
    new.set_weights(old.get_weights())
    renew_normalizations(new)


def renew_normalizations(layer):
    """Makes every `Normalization` in a layer compute with the weights that it has been given.

    What one adapted to are weights, of which it computes with copies.
    """
    for part in layer._flatten_layers():
        if isinstance(part, keras.layers.Normalization) and part.built:
            part.finalize_state()
