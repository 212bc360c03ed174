"""Masks of padded steps: handed to the layers inside of another, or not claimed to be supported."""

import keras
from keras import ops

from pinets_tf._keras import flatten_layers


def supported(*layers):
    """Whether padded steps, with their mask, change no answer of another step in any of `layers`, some perhaps `None`.

    Models hand a mask on and do not say so; group normalisations say so and count padded steps (Keras 3.15).
    """
    inner = [part for layer in layers if layer is not None for part in flatten_layers(layer)]
    return all(map(_supports, (part for part in inner if not isinstance(part, (keras.Model, keras.layers.InputLayer)))))


def _supports(layer):
    takes_masks = "mask" in layer.call_signature_parameters
    within_steps = getattr(layer, "axis", -1) in (-1, [-1], (-1,)) and not isinstance(
        layer, keras.layers.GroupNormalization
    )
    return layer.supports_masking and (takes_masks or within_steps)


def apply(layer, x, mask, **options):
    """Returns what a layer makes of `x`, with its mask if the layer takes one."""
    takes_one = mask is not None and "mask" in layer.call_signature_parameters
    return layer(x, mask=mask, **options) if takes_one else layer(x, **options)


def of_positions(mask, x):
    """Returns the mask of steps as one of all positions of `x`: an axis for each of `x` but the last."""
    missing = len(x.shape) - 1 - len(mask.shape)
    return ops.reshape(mask, (*ops.shape(mask), *[1] * missing)) if missing > 0 else mask
