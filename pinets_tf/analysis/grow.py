"""A polynomial layer of a higher order that computes what it computed before."""

import keras

from pinets_tf.analysis.model_graph import copied_graph, copy_of, has_graph
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.copying import copy_weights


def grow(layer, order):
    """Returns a layer of a higher order with the weights of a trained one, which computes the same at the start.

    The new steps come before the old ones, and each has a gate that is zero,

        x_1 = the old x_1,    x_n = gate_n * normalize(factor_n * state_n) + x_{n-1},    n = 2, ..., order - N + 1

    for CCP and NCPSkip of old order N; the last of these x_n is what the old second step then takes for x_1. A gate of
    zero has a gradient, since the linear maps of its step have the initial values of a new layer. The other kinds:

    - NCP has nothing that carries x_{n-1} past a product. Its new steps make the state in front of the old A_1 and b_1:
      x_n = (A_1^T z) * (gate * S_n^T x_{n-1} + b_1), which is the old x_1 while the gate is zero.
    - PolynomialResidual, PooledProduct, and SpiralPolynomial of the simple variant carry what stays when a gate is
      zero. Of several new gates of a residual block the last alone has a gradient at first, as in a new gated block.
    - SpiralPolynomial of the full variant adds A_n z, which starts at zero with `residual`. Without, the new steps hand
      on z itself, which fits into their states if there are no more channels than filters.

    The new layer has `gate=True`: gates of old steps that had none are one, and train like the others. LoRA adapters of
    linear maps are merged.

    Args:
        layer: a built layer: CCP, NCP, NCPSkip, PolynomialResidual, PooledProduct, SpiralPolynomial; or a ProdPoly or a
            functional or sequential model, whose layers of a lower order, directly inside it, are all raised to
            `order`. It is left as it is. A class of yours says in `BY_ORDER`, beside its recursion, which of its lists
            have a part for each order.
        order: the new order, above that of the layer. For a ProdPoly, that of each of its polynomials.

    Returns:
        A built layer, or a model, of the same name and outputs, with weights of its own.

    Raises:
        ValueError: if `order` is not above that of the layer, if the layer is of another kind, says not how it grows,
            has no weights yet or is quantised, or if it has no place where a new term is zero: an NCP with
            `identity_factors` or with a normalisation of x_1, any layer with normalised sums
            (`normalize_at="order"`), and some spiral polynomials.

    Example:

    >>> import numpy as np
    >>> from pinets_tf.analysis import grow
    >>> from pinets_tf.layers import NCP
    >>> layer, z = NCP(units=3, order=2, rank=4), np.ones((2, 5), "float32")
    >>> before = layer(z)
    >>> grown = grow(layer, 4)
    >>> grown.order, np.allclose(grown(z), before)
    (4, True)

    Source: ours; the recursions are those of Chrysos et al., "Π-nets: Deep Polynomial Neural Networks", CVPR 2020.
    """
    order = positive_integer("order", order, "Pass an order above that of the layer.")
    if isinstance(layer, keras.Model):
        return _grow_model(layer, order)
    grown = _raised(layer, order)
    if grown is None:
        raise ValueError(
            "A layer grows to an order above that of the layer, if there are several orders of its kind. "
            f"Received: order={order} for {layer!r}, which is of type {type(layer).__name__} and order "
            f"{getattr(layer, 'order', None)}. Pass a higher order, or use `convert` for a model without polynomial "
            "layers; `truncate` takes the terms of high orders away."
        )
    return grown


def _raised(layer, order):
    """Returns a layer raised to an order, or `None` for one that has no lower order or none at all."""
    config = layer.grown_config(order) if hasattr(layer, "grown_config") else None
    if config is None:
        return None
    grown = type(layer).from_config(config)
    grown.build_from_config(layer.get_build_config())
    grown.load_grown(layer)
    return grown


def _grow_model(model, order):
    if not has_graph(model):
        raise ValueError(
            "The layers of a model are raised in a copy of its graph. "
            f"Received: {model!r}. Pass a built functional or sequential model, or one of its layers."
        )
    copies = []

    def copied(layer):
        raised = _raised(layer, order)
        copies.append((raised or copy_of(layer), layer, raised is not None))
        return copies[-1][0]

    grown = copied_graph(model, copied)
    if not any(is_raised for _, _, is_raised in copies):
        raise ValueError(
            f"A model grows by its polynomial layers of an order below {order}. Received: the model {model.name}, "
            "which has none. Pass a higher order, or use `convert` to make its residual blocks polynomial."
        )
    for new, old, is_raised in copies:
        if isinstance(old, keras.layers.Layer) and not is_raised:
            copy_weights(new, old)
    return grown
