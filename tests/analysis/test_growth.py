"""A layer of a higher order that starts as the old one."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import grow
from pinets_tf.layers import (
    CCP,
    NCP,
    Injection,
    NCPSkip,
    Polynomial,
    PolynomialResidual,
    PooledProduct,
    ProdPoly,
    SpiralPolynomial,
)
from tests.conformance.cases import SPIRALS, numpy, randomise, tensorflow_only
from tests.polynomial_degree import assert_polynomial_degree, normalises_in_float64


def vectors(cls, order, **options):
    return cls(3, order, rank=4, **options), (2, 5)


def images(cls, order, **options):
    return cls(3, order, operator=keras.layers.Conv2D(4, 3, padding="same"), **options), (2, 6, 6, 3)


def residual(order, **options):
    branch = keras.Sequential([keras.layers.Conv2D(3, 3, padding="same"), keras.layers.BatchNormalization()])
    return PolynomialResidual(branch, order, **options), (2, 6, 6, 3)


def spirals(order, channels=3, **options):
    return SpiralPolynomial(4, SPIRALS, order, **options), (2, 5, channels)


LAYERS = {
    "CCP": lambda: vectors(CCP, 3),
    "CCP-order-1": lambda: vectors(CCP, 1),
    "CCP-identity-gate": lambda: (CCP(3, 2, rank=5, identity_factors=True, gate=True), (2, 5)),
    "CCP-batch-last": lambda: vectors(CCP, 3, normalize="batch", normalize_at="last"),
    "CCP-images-instance": lambda: images(CCP, 2, normalize="instance"),
    "CCP-custom": lambda: vectors(CCP, 2, normalize=keras.layers.Dense(4)),
    "CCP-affine-order": lambda: vectors(CCP, 2, normalize="affine", normalize_at="order"),
    "NCP": lambda: vectors(NCP, 3),
    "NCP-order-1": lambda: vectors(NCP, 1, use_bias=False),
    "NCP-images-affine-gate": lambda: images(NCP, 2, normalize="affine", gate=True),
    "NCP-tanh-last": lambda: vectors(NCP, 2, normalize="tanh", normalize_at="last"),
    "NCPSkip": lambda: vectors(NCPSkip, 2, learn_skip=True, normalize="batch"),
    "NCPSkip-images": lambda: images(NCPSkip, 2, normalize="layer", gate=True),
    "PolynomialResidual": lambda: residual(3, normalize="batch"),
    "PolynomialResidual-order-1": lambda: residual(1, normalize="tanh", gate=True),
    "PolynomialResidual-factor": lambda: residual(2, factor=keras.layers.Conv2D(3, 1)),
    "PooledProduct": lambda: (PooledProduct(keras.layers.Dense(3), 2, normalize="tanh"), (2, 6, 6, 3)),
    "ProdPoly": lambda: (ProdPoly([NCP(4, 2, rank=4), keras.layers.LayerNormalization(), CCP(3, 4, rank=4)]), (2, 5)),
    "SpiralPolynomial": lambda: spirals(2),
    "SpiralPolynomial-order-1-keep": lambda: spirals(1, channels=6, keep=[3, 0]),
    "SpiralPolynomial-order-3": lambda: spirals(3, keep=[3, 0], normalize="vertex_batch"),
    "SpiralPolynomial-residual": lambda: spirals(3, channels=6, residual=True, normalize="vertex_batch"),
    "SpiralPolynomial-residual-order-1": lambda: spirals(1, residual=True),
    "SpiralPolynomial-simple": lambda: spirals(2, variant="simple", normalize="batch", normalize_at="last"),
}


@pytest.mark.parametrize("name, by", [(name, 1 + number % 2) for number, name in enumerate(LAYERS)])
def test_computes_the_same(name, by):
    layer, shape = LAYERS[name]()
    z = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer(z)
    randomise(layer)
    order = (2 if isinstance(layer, ProdPoly) else layer.order) + by
    grown = grow(layer, order)
    assert grown.name == layer.name and grown.compute_output_shape(shape) == layer.compute_output_shape(shape)
    assert not {id(weight) for weight in grown.weights} & {id(weight) for weight in layer.weights}
    np.testing.assert_allclose(numpy(grown(z)), numpy(layer(z)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(numpy(grown(z, training=True)), numpy(layer(z, training=True)), rtol=1e-5, atol=1e-5)
    if isinstance(layer, ProdPoly):
        assert [part.order for part in grown.polynomials if hasattr(part, "order")] == [order, 4]
    else:
        assert grown.order == order


@normalises_in_float64
@pytest.mark.parametrize(
    "name", ["CCP", "NCP", "NCPSkip", "PolynomialResidual", "SpiralPolynomial", "SpiralPolynomial-residual"]
)
def test_new_terms_raise_the_degree_once_they_are_open(name):
    keras.config.set_dtype_policy("float64")
    layer, shape = LAYERS[name]()
    layer.build((None, *shape[1:]))
    grown = grow(layer, 4)
    randomise(grown)
    assert_polynomial_degree(grown, shape[1:], 4)


@tensorflow_only
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_reach_the_new_terms(name):
    import tensorflow as tf

    layer, shape = LAYERS[name]()
    z = np.random.default_rng(0).normal(size=shape).astype("float32")
    layer(z)
    randomise(layer)
    grown = grow(layer, (2 if isinstance(layer, ProdPoly) else layer.order) + 2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(grown(z) ** 3)
    closed = [weight for weight in grown.trainable_weights if not numpy(weight).any()]
    gradients = tape.gradient(loss, [weight.value for weight in closed])
    assert any(gradient is not None and np.abs(gradient).max() > 1e-4 for gradient in gradients)


def test_raises_the_layers_of_a_model():
    z = keras.Input((6, 6, 2))
    inner = keras.Sequential([keras.Input((6, 6, 2)), images(NCPSkip, 2)[0]], name="inner")
    pooled = keras.layers.GlobalAveragePooling2D()(resnet_block(inner(z)))
    polynomials = ProdPoly([CCP(4, 3, rank=4), NCP(3, 2, rank=4)], name="last")
    model = keras.Model(z, polynomials(pooled))
    randomise(model)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2))
    grown = grow(model, 3)
    np.testing.assert_allclose(numpy(grown(x)), numpy(model(x)), rtol=1e-5, atol=1e-5)
    orders = [part.order for part in grown.get_layer("last").polynomials]
    assert [grown.get_layer("inner").layers[0].order, grown.get_layer("block").order, *orders] == [3, 3, 3, 3]


def resnet_block(x):
    return PolynomialResidual(keras.layers.Conv2D(3, 3, padding="same"), 1, name="block")(x)


def test_leaves_products_out_where_they_were():
    layer, z = CCP(3, 4, rank=4), np.ones((2, 5), "float32")
    layer.products = 1
    layer(z)
    grown = grow(layer, 5)
    assert grown.products == 2
    np.testing.assert_allclose(numpy(grown(z)), numpy(layer(z)), rtol=1e-6)


class Silent(Polynomial):
    """A recursion of a user's, of which nothing says how it grows."""

    def recursion(self, on, z):
        x = on.apply(self.factors[0], z)
        for step, U_n in zip(self.steps, self.factors[1:]):
            x = on.step(step, on.apply(U_n, z), x, carry=x)
        return self.read_out(on, x)


class Said(Silent):
    BY_ORDER = ("factors",)


class Other(CCP):
    recursion = Silent.recursion


def test_a_layer_of_a_user_grows_once_it_says_how():
    layer, z = Said(3, 2, rank=4), np.ones((2, 5), "float32")
    layer(z)
    grown = grow(layer, 4)
    assert grown.order == 4
    np.testing.assert_allclose(numpy(grown(z)), numpy(layer(z)), rtol=1e-6)


def test_leaves_the_layers_of_a_model_that_have_one_order():
    x, z = keras.Input((6, 6, 4)), keras.Input((5,))
    model = keras.Model([x, z], Injection(name="injection")([x, CCP(4, 2, rank=4, name="ccp")(z)]))
    randomise(model)
    grown = grow(model, 3)
    assert [grown.get_layer(name).order for name in ("injection", "ccp")] == [2, 3]
    tensors = [np.ones((2, 6, 6, 4), "float32"), np.ones((2, 5), "float32")]
    np.testing.assert_allclose(numpy(grown(tensors)), numpy(model(tensors)), rtol=1e-5, atol=1e-6)


def built(layer, shape):
    layer.build((None, *shape[1:]))
    return layer


def quantised():
    model = keras.Sequential([keras.Input((5,)), CCP(3, 2, rank=4)])
    model.quantize("int8")
    return model.layers[0]


REFUSED = {
    "quantised": (quantised, r"which is quantised\. Raise the layer before"),
    "kind": (
        lambda: keras.layers.Dense(2),
        r"if there are several .* Received: .* of type Dense and order None\. Pass .* `convert`",
    ),
    "injection": (
        lambda: Injection(),
        r"several orders of its kind\. Received: .* is of type Injection and order 2\. .* use `convert`",
    ),
    "unbuilt": (lambda: CCP(3, 2, rank=4), r"Received: the CCP .*, which has no weights yet\. Call the layer once"),
    "order": (
        lambda: built(*vectors(CCP, 4)),
        r"above that of the layer.* Received: order=3 for <CCP .* order 4\. Pass a higher",
    ),
    "all of lower order": (
        lambda: built(ProdPoly([CCP(3, 3, rank=4)]), (2, 5)),
        r"Received: order=3 for .* ProdPoly and order 3\. Pass",
    ),
    "unbuilt inside": (lambda: ProdPoly([CCP(3, 2, rank=4)]), r"Received: the CCP .*, which has no weights yet"),
    "silent": (
        lambda: built(Silent(3, 2, rank=4), (2, 5)),
        r"the Silent .* of order 2, which says not how .*`BY_ORDER`",
    ),
    "other recursion": (
        lambda: built(Other(3, 2, rank=4), (2, 5)),
        r"the Other .*, which says not how it grows\. Name",
    ),
    "in a model": (
        lambda: keras.Sequential([keras.Input((5,)), CCP(4, 2, rank=4), Silent(3, 2, rank=4)]),
        r"the Silent .*, which says not how it grows",
    ),
    "sums": (
        lambda: built(*vectors(CCP, 2, normalize="layer", normalize_at="order")),
        r"new terms can be zero .* Received: the CCP .* of order 2, whose sums are normalised .*\. Train one",
    ),
    "identity": (lambda: built(NCP(3, 2, rank=5, identity_factors=True), (2, 5)), r"z itself .* Use NCPSkip"),
    "first state": (lambda: built(*vectors(NCP, 2, normalize="batch")), r"normalised by normalize='batch'\. Fold"),
    "pooled": (
        lambda: built(PooledProduct(keras.layers.Dense(3), 2, normalize=keras.layers.Dense(3)), (2, 6, 3)),
        r"something of its own .* normalize='tanh'",
    ),
    "simple residual": (
        lambda: built(*spirals(2, variant="simple", residual=True)),
        r"Sz once more\. Train .* without `residual`",
    ),
    "kept vertices": (lambda: built(*spirals(2, keep=[3, 0], normalize="batch")), r"the kept vertices alone.*`keep`"),
    "last": (
        lambda: built(*spirals(2, residual=True, normalize="batch", normalize_at="last")),
        r"not be the last one\. Train",
    ),
    "channels": (lambda: built(*spirals(2, channels=6)), r"whose 4 filters cannot hand on z of 6 channels.*residual"),
    "model": (lambda: keras.Model(name="plain"), r"copy of its graph\. Received: .*\. Pass a built functional"),
    "nothing": (
        lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="linear"),
        r"of an order below 3\. Received: the model linear, which has none\. Pass a higher order, or use `convert`",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_says_why_a_layer_cannot_grow(case):
    make, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        grow(make(), 3)
