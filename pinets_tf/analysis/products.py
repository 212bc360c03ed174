"""The products of a polynomial network, one after another switched off."""

import functools

from pinets_tf.analysis.parts import copied_graph
from pinets_tf.layers.copying import copy_weights, paired_layers
from pinets_tf.layers.polynomial.horner import HornerLayer


def count_products(model):
    """Returns how many Hadamard products the polynomial layers of a model compute.

    Args:
        model: a Keras model or layer.
    """
    return sum(layer.computed_products for layer in _horner_layers(model))


def without_products(model, after):
    """Returns a copy of a model in which all Hadamard products after the first `after` ones are left out.

    A step x_n = factor * state + carry becomes x_n = carry, or x_n = state where nothing is carried, as in an NCP. The
    products are counted along the model, layer after layer; what lies between them is computed as before. With the
    pictures of `after` = 0, 1, 2, ... side by side one sees what each product adds to an image.

    Args:
        model: a built functional or sequential Keras model. It is left as it is.
        after: how many products are computed, from none to all of them.

    Returns:
        A Keras model of the same inputs and outputs, with weights of its own.

    Raises:
        ValueError: if `after` is not a number from 0 to that of the products of the model, or if the model is not
            functional or sequential, or has a layer that cannot be copied.

    Example:

    >>> from pinets_tf.analysis import count_products, degree, without_products
    >>> import keras
    >>> from pinets_tf.layers import NCP
    >>> model = keras.Sequential([keras.Input((5,)), NCP(3, order=4, rank=6)])
    >>> count_products(model), degree(without_products(model, 1))
    (3, 2)

    Source: ours; the authors' code for generators has such a switch.
    """
    total = count_products(model)
    if isinstance(after, bool) or not isinstance(after, int) or not 0 <= after <= total:
        raise ValueError(
            "The products that are computed are the first ones of the model. "
            f"Received: after={after!r} for a model of {total} products. Pass a number from 0 to {total}."
        )
    copy = copied_graph(model)
    copy_weights(copy, model)
    left, chosen = after, {}
    for layer in _horner_layers(model):
        chosen[id(layer)] = min(left, layer.computed_products)
        left -= chosen[id(layer)]
    # A layer in two places of the model may have become two layers.
    for new, old in paired_layers(copy, model):
        if isinstance(new, HornerLayer):
            new.products = chosen[id(old)]
    return copy


def product_stages(model, most=12):
    """Returns how to make the models without products, with the first one, with the first two, and so on.

    Args:
        model: as in `without_products`.
        most: at most so many models, spread evenly from none to all products.

    Returns:
        A dictionary from the number of products, as a text, to a function without arguments that returns the model of
        `without_products`; empty for a model without products.

    Example:

    >>> from pinets_tf.analysis import product_stages
    >>> from pinets_tf.models import linear_generator
    >>> list(product_stages(linear_generator(latent=6, width=0.02), most=4))
    ['0', '4', '7', '11']
    """
    products = count_products(model)
    numbers = sorted({round(products * step / (most - 1)) for step in range(most)}) if products else []
    return {str(after): functools.partial(without_products, model, after) for after in numbers}


def _horner_layers(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, HornerLayer)]
