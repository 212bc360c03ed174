"""A polynomial layer of a higher order that computes what it computed before."""

import keras
import numpy as np
from keras import ops

from pinets_tf.analysis.model_graph import copied_graph, copy_of, has_graph
from pinets_tf.layers import NCP, PolynomialResidual, PooledProduct, ProdPoly, SpiralPolynomial
from pinets_tf.layers.checks import positive_integer
from pinets_tf.layers.copying import copy_weights
from pinets_tf.layers.polynomial.decomposition import Polynomial

# Normalisations that start as the identity, in training too.
_START_AS_IDENTITY = (None, "affine", "offset")
_KINDS = (Polynomial, PolynomialResidual, PooledProduct, ProdPoly, SpiralPolynomial)


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
            `order`. It is left as it is.
        order: the new order, above that of the layer. For a ProdPoly, that of each of its polynomials.

    Returns:
        A built layer, or a model, of the same name and outputs, with weights of its own.

    Raises:
        ValueError: if `order` is not above that of the layer, if the layer is of another kind, has no weights yet or is
            quantised, or if it has no place where a new term is zero: an NCP with `identity_factors` or with a
            normalisation of x_1, any layer with normalised sums (`normalize_at="order"`), and some spiral polynomials.

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
    _check(layer, order)
    config = layer.get_config()
    if isinstance(layer, ProdPoly):
        parts = [grow(part, order) if _grows(part, order) else part for part in layer.polynomials]
        grown = _built({**config, "polynomials": [keras.saving.serialize_keras_object(part) for part in parts]}, layer)
        for new, old in zip(grown.polynomials, parts):
            copy_weights(new, old)
        return grown
    added = order - layer.order
    if layer.products is not None:
        config["products"] = layer.products + added
    grown = _built({**config, "order": order, "gate": True}, layer)
    carry = {Polynomial: _carry_polynomial, SpiralPolynomial: _carry_spirals}
    kinds = [kind for kind in carry if isinstance(layer, kind)]
    steps = carry[kinds[0]](grown, layer, added) if kinds else _carry_others(grown, layer, added)
    for n, old_n in steps.items():
        _carry_step(grown, n, layer, old_n)
    return grown


def _grow_model(model, order):
    if not has_graph(model):
        raise ValueError(
            "The layers of a model are raised in a copy of its graph. "
            f"Received: {model!r}. Pass a built functional or sequential model, or one of its layers."
        )
    copies, grown = [], []

    def copied(layer):
        if _grows(layer, order):
            grown.append(layer.name)
            return grow(layer, order)
        copies.append((copy_of(layer), layer))
        return copies[-1][0]

    new_model = copied_graph(model, copied)
    if not grown:
        raise ValueError(
            f"A model grows by its polynomial layers of an order below {order}. Received: the model {model.name}, "
            "which has none. Pass a higher order, or use `convert` to make its residual blocks polynomial."
        )
    for new, old in copies:
        if isinstance(old, keras.layers.Layer):
            copy_weights(new, old)
    return new_model


def _grows(layer, order):
    """Returns whether a layer of a model is one to raise."""
    if isinstance(layer, ProdPoly):
        return any(_grows(part, order) for part in layer.polynomials)
    return isinstance(layer, _KINDS) and layer.order < order


def _check(layer, order):
    """Raises a `ValueError` for a layer that cannot be raised to `order`."""
    trouble = None
    if not isinstance(layer, _KINDS):
        trouble = f"is of type {type(layer).__name__}"
    elif not layer.built:
        trouble = "has no weights yet"
    elif "quantized" in layer.get_config():
        trouble = "is quantised"
    if trouble is not None:
        raise ValueError(
            "The layers that grow are built ones of type CCP, NCP, NCPSkip, PolynomialResidual, PooledProduct, "
            f"ProdPoly and SpiralPolynomial. Received: {layer!r}, which {trouble}. Call the layer once, raise it "
            "before it is quantised, or use `convert` for a model without such layers."
        )
    if not _grows(layer, order):
        raise ValueError(
            f"The new order must be above that of the layer. Received: order={order} for {layer.name} of order "
            f"{layer.order}. Pass a higher one; `truncate` takes the terms of high orders away."
        )
    obstacle = None if isinstance(layer, ProdPoly) else _obstacle(layer)
    if obstacle is not None:
        raise ValueError(
            "A layer grows where its new terms can be zero and everything else stays as it is. "
            f"Received: the {type(layer).__name__} {layer.name} of order {layer.order}, {obstacle[0]}. {obstacle[1]}"
        )


def _obstacle(layer):
    """Returns what keeps a layer from growing and what to do instead, or `None`."""
    normalizes = layer.normalize not in _START_AS_IDENTITY
    if type(layer) is NCP:
        if layer.identity_factors:
            return "in which z itself is the factor of every product", "Use NCPSkip, whose steps carry x_{n-1}."
        if normalizes and (layer.normalize_at != "last" or layer.order == 1):
            advice = "Fold a batch normalisation with `pinets_tf.models.fold_normalization`, or use NCPSkip."
            return f"whose first state would be normalised by normalize={layer.normalize!r}", advice
    elif normalizes and layer.normalize_at == "order":
        return "whose sums are normalised (normalize_at='order')", "Train one with normalize_at='product'."
    if isinstance(layer, PooledProduct) and isinstance(layer.normalize, keras.layers.Layer):
        advice = "Train one with normalize='tanh'."
        return f"where {layer.normalize!r} makes something of its own of products that are zero", advice
    return _spiral_obstacle(layer) if isinstance(layer, SpiralPolynomial) else None


def _spiral_obstacle(layer):
    if layer.variant == "simple":
        if layer.residual:
            return "whose every step adds Sz once more", "Train a simple one without `residual`."
        return None
    if layer.order == 2 and layer.normalize is not None and _keeps_some(layer):
        advice = "Train one without `keep` or `normalize`."
        return "whose statistics are those of the kept vertices alone, and would be those of all", advice
    if layer.residual:
        if layer.order == 2 and layer.normalize is not None and layer.normalize_at == "last":
            return "whose last product would not be the last one", "Train one with normalize_at='product'."
        return None
    channels, own = layer.S[0].shape[1], ops.convert_to_numpy(layer.spirals)[:, 0]
    if layer.order > 1 and (channels > layer.filters or (own != np.arange(len(own))).any()):
        advice = "Train one with residual=True, or with as many filters as z has channels."
        return f"whose {layer.filters} filters cannot hand on z of {channels} channels, vertex by vertex", advice
    return None


def _keeps_some(layer):
    return layer.get_config()["keep"] is not None


def _built(config, layer):
    grown = type(layer).from_config(config)
    grown.build_from_config(layer.get_build_config())
    return grown


def _carry_polynomial(new, old, added):
    first = 1 if old.CARRIES else 1 + added
    places = {1: first, **{n: n + added for n in range(2, old.order + 1)}}
    for n, place in places.items():
        copy_weights(new.factors[place - 1], old.factors[n - 1])
        if hasattr(old, "b"):
            new.b[place - 1].assign(old.b[n - 1])
        for maps in ("S", "V"):
            if n > 1 and getattr(old, maps, None):
                copy_weights(getattr(new, maps)[place - 2], getattr(old, maps)[n - 2])
    if old.C is not None:
        copy_weights(new.C, old.C)
    # In an NCP the gate in front of the old A_1 alone keeps the new terms out.
    _open_gates(new, range(2, first))
    return _shifted(old, added)


def _carry_others(new, old, added):
    if isinstance(old, PooledProduct):
        for n, factor in enumerate(old.factors):
            copy_weights(new.factors[n + added], factor)
    else:
        for name in ("branch", "shortcut", "factor"):
            if getattr(old, name) is not None:
                copy_weights(getattr(new, name), getattr(old, name))
    return _shifted(old, added)


def _carry_spirals(new, old, added):
    new.spirals.assign(old.spirals)
    if _keeps_some(old):
        new.keep.assign(old.keep)
    if old.beta is not None:
        new.beta.assign(old.beta)
    if old.variant == "simple":
        new.S[0].assign(old.S[0])
        return _shifted(old, added)
    zero = np.zeros(new.A[0].shape)
    if old.residual:
        A_2 = old.A[0] if old.A else old.S[0]
        for n, A_n in enumerate([A_2, *[zero] * added, *old.A[1:]][: new.order - 1]):
            new.A[n].assign(A_n)
        if old.A:
            new.S[0].assign(old.S[0])
        for n, S_n in enumerate(old.S[1:]):
            new.S[n + 1 + added].assign(S_n)
        return {2 if n == 2 else n + added: n for n in range(2, old.order + 1)}
    if not old.A:
        new.A[-1].assign(old.S[0])
        _open_gates(new, range(2, new.order))
        return {}
    channels = old.S[0].shape[1]
    through, behind = zero, np.zeros(new.S[added].shape)
    through[0, range(channels), range(channels)] = 1
    behind[:, :channels] = ops.convert_to_numpy(old.S[0])
    for n, A_n in enumerate([*[through] * added, *old.A]):
        new.A[n].assign(A_n)
    for n, S_n in enumerate([behind, *old.S[1:]]):
        new.S[n + added].assign(S_n)
    return _shifted(old, added)


def _shifted(old, added):
    """Returns the old steps by the place that they have after `added` new ones."""
    return {n + added: n for n in range(2, old.order + 1)}


def _carry_step(new, n, old, old_n):
    """Gives step n of the new layer the gate and the normalisation of a step of the old one."""
    gate = _gate(old, old_n)
    _gate(new, n).assign(1.0 if gate is None else gate)
    normalizers = new.normalizers[n - 2], old.normalizers[old_n - 2]
    if None not in normalizers:
        copy_weights(*normalizers, leave=[layer.gate for layer in normalizers if hasattr(layer, "gate")])


def _open_gates(layer, steps):
    for n in steps:
        _gate(layer, n).assign(1.0)


def _gate(layer, n):
    """Returns the gate of step n, which may be part of its normalisation."""
    own = layer.gates[n - 2]
    return layer.normalizers[n - 2].gate if layer.gate and own is None else own
