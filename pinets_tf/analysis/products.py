"""The products of a polynomial network, one after another switched off."""

import keras

from pinets_tf.layers.horner import HornerLayer


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
        ValueError: if `after` is not a number of products that the model has, or the model has none.

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
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    left = after
    for layer in _horner_layers(copy):
        layer.products = min(left, layer.computed_products)
        left -= layer.products
    return copy


def product_stages(model):
    """Returns the models without products, with the first one, with the first two, and so on, by the number of them.

    Args:
        model: as in `without_products`.

    Returns:
        A dictionary from the texts "0", "1", ... to Keras models; empty for a model without products.

    Raises:
        ValueError: if a model with products cannot be copied.
    """
    products = count_products(model)
    return {str(after): without_products(model, after) for after in range(products + 1)} if products else {}


def _horner_layers(model):
    return [layer for layer in model._flatten_layers() if isinstance(layer, HornerLayer)]
