"""Layers inside of others: built for the shapes that reach them, or refused in words."""

from pinets_tf._keras import flatten_layers


def channel_axis(layer):
    """Returns the axis of the channels that a layer computes: 1 if it, or a layer inside, has them first, else -1."""
    inner = [] if layer is None else flatten_layers(layer)
    return 1 if any(getattr(part, "data_format", None) == "channels_first" for part in inner) else -1


def build_part(name, layer, shape):
    """Builds a layer inside of another, unless it is, and returns the shape that it makes of `shape`.

    Args:
        name: what the layer is called in the one around it.
        layer: a Keras layer.
        shape: that of its input.
    """
    return _asked(name, layer, shape, build=True)


def returned_shape(name, layer, shape):
    """Returns the shape that a layer inside of another makes of `shape`."""
    return _asked(name, layer, shape, build=False)


def _asked(name, layer, shape, build):
    shape = tuple(shape)
    if len(getattr(layer, "inputs", None) or [layer]) > 1:
        raise _refused(name, layer, shape, "it has several inputs")
    fewest, exact = (getattr(layer.input_spec, name, None) for name in ("min_ndim", "ndim"))
    if len(shape) < (fewest or 0) or len(shape) != (exact or len(shape)):
        raise _refused(name, layer, shape, f"it takes {'exactly' if exact else 'at least'} {exact or fewest} axes")
    if 0 in shape[1:] and any(hasattr(inner, "kernel_size") for inner in flatten_layers(layer)):
        raise _refused(name, layer, shape, "it has no convolution of an empty axis")
    try:
        if build and not layer.built:
            layer.build(shape)
        returned = tuple(layer.compute_output_shape(shape))
    except Exception as error:
        # Layers say in many ways, and with many errors, that they cannot take a shape.
        if isinstance(error, ValueError) and "Received:" in str(error):
            raise
        reason = str(error).split("\n")[0] if isinstance(error, ValueError) else "it cannot be built"
        raise _refused(name, layer, shape, reason) from error
    if not all(size is None or isinstance(size, int) for size in returned):
        raise _refused(name, layer, shape, "it has several outputs")
    return returned


def _refused(name, layer, shape, reason):
    return ValueError(
        f"`{name}` must take one input of the shape that reaches it and return one output. "
        f"Received: {layer!r} of type {type(layer).__name__} for an input of shape {shape}: {reason.rstrip('.')}. "
        "Pass a layer that takes such an input, and give the sizes of channels, such as keras.Input((32, 32, 3))."
    )
