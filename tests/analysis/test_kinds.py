"""A layer says what it is by its class, and that counts only where no class below computes something else."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import pinets_tf.analysis
from pinets_tf import layers
from pinets_tf.analysis import (
    NotPolynomial,
    collapse_affine,
    contributions,
    count_products,
    degree,
    encryption_report,
    first_not_polynomial,
    polynomial_summary,
    register_layer,
    truncate,
    without_products,
)
from pinets_tf.analysis.kinds import kind_of, stated_by_class
from pinets_tf.layers import (
    CCP,
    NCP,
    BatchNormalization,
    EqualizedLearningRate,
    GMMConv,
    Injection,
    PolynomialResidual,
    PooledProduct,
    ProdPoly,
    SpectralNormalization,
    SpiralConv,
    SpiralPolynomial,
    VertexResample,
)
from tests.conformance.cases import COORDINATES, MIDPOINTS, SPIRALS, numpy, randomise

# For each class that says what its layers are, or of which Keras's are known, how one with another `call` is made.
MAKERS = {
    CCP: lambda cls: cls(4, 2, rank=3),
    NCP: lambda cls: cls(4, 2, rank=3),
    PolynomialResidual: lambda cls: cls(keras.layers.Dense(4), 2),
    ProdPoly: lambda cls: cls([CCP(4, 2, rank=3), NCP(4, 2, rank=3)]),
    PooledProduct: lambda cls: cls(keras.layers.Dense(4), 2),
    SpiralPolynomial: lambda cls: cls(4, SPIRALS, 2),
    BatchNormalization: lambda cls: cls(),
    SpiralConv: lambda cls: cls(4, SPIRALS),
    GMMConv: lambda cls: cls(4, SPIRALS, COORDINATES),
    VertexResample: lambda cls: cls(MIDPOINTS),
    SpectralNormalization: lambda cls: cls(keras.layers.Dense(4)),
    EqualizedLearningRate: lambda cls: cls(keras.layers.Dense(4)),
    keras.layers.Dense: lambda cls: cls(4),
    keras.layers.BatchNormalization: lambda cls: cls(),
    keras.layers.Rescaling: lambda cls: cls(2.0, 1.0),
    keras.layers.TimeDistributed: lambda cls: cls(keras.layers.Dense(4)),
}
X = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")


def bent(cls):
    """Returns a subclass with a `call` of its own, which is no polynomial."""

    def call(self, inputs, training=None, mask=None):
        return ops.relu(cls.call(self, inputs))

    # A class between that redefines nothing changes nothing.
    return type(f"Bent{cls.__name__}", (type("Between", (cls,), {}),), {"call": call})


def between_maps(layer):
    z = keras.Input((5, 4))
    x = layer(keras.layers.Dense(4, name="before")(z))
    model = keras.Model(z, keras.layers.Dense(4, name="after")(x))
    randomise(model.get_layer("before"))
    return model


@pytest.mark.parametrize("cls", MAKERS)
def test_a_call_of_its_own_is_not_taken_for_that_of_its_parent(cls):
    made = MAKERS[cls](type("Plain", (cls,), {}))
    plain = between_maps(made)
    assert stated_by_class(made) == stated_by_class(MAKERS[cls](cls))
    assert degree(plain) is not None and encryption_report(plain).ready
    layer = MAKERS[cls](bent(cls))
    model = between_maps(layer)
    assert stated_by_class(layer) is None
    with pytest.raises(NotPolynomial):
        kind_of(layer)
    assert degree(model) is None and first_not_polynomial(model) == layer.name
    for function, *arguments in ((contributions, X), (truncate, 1)):
        with pytest.raises(NotPolynomial, match=f"Received: the layer {layer.name} of type Bent{cls.__name__}"):
            function(model, *arguments)
    (obstacle,) = encryption_report(model).obstacles
    assert (obstacle.layer, obstacle.reason) == (layer.name, "is not known to be a product or an affine map")
    assert count_products(model) == 0
    summary = polynomial_summary(model)
    row = next(row for row in summary.rows if row.layer == layer.name)
    assert (row.order, row.degree, row.rank, row.multiply_adds, row.products) == (None,) * 5
    assert summary.unknown == (layer.name,)
    for copy in (collapse_affine(model), without_products(model, 0)):
        np.testing.assert_allclose(numpy(copy(X)), numpy(model(X)), atol=1e-6)
    # Nothing is joined across it.
    assert len(collapse_affine(model).layers) == len(model.layers)


def test_a_wrapper_is_what_it_wraps_unless_that_is_a_polynomial():
    for inner, expected in (
        (keras.layers.Dense(4), 1),
        (keras.layers.Dense(4, activation="relu"), None),
        (CCP(4, 2, rank=3), None),
        (keras.Sequential([keras.Input((4,)), CCP(4, 2, rank=3)]), None),
    ):
        layer = keras.layers.TimeDistributed(inner)
        model = between_maps(layer)
        assert degree(model) == expected and encryption_report(model).ready == (expected is not None)
        assert count_products(model) == 0
        if expected is None:
            assert first_not_polynomial(model) == layer.name
            with pytest.raises(NotPolynomial):
                contributions(model, X)
        for copy in (collapse_affine(model), without_products(model, 0)):
            np.testing.assert_allclose(numpy(copy(X)), numpy(model(X)), atol=1e-6)


def test_several_inputs():
    class Bent(Injection):
        def call(self, inputs, training=None, mask=None):
            return ops.relu(super().call(inputs))

    z, w = keras.Input((5, 4)), keras.Input((3,))
    for cls, expected in ((Injection, 2), (Bent, None)):
        assert degree(keras.Model([z, w], cls()([z, w]))) == expected

    class BentProduct(keras.layers.Multiply):
        def call(self, inputs):
            return ops.relu(super().call(inputs))

    class BentMerge(keras.layers.Multiply):
        def _merge_function(self, inputs):
            return ops.relu(super()._merge_function(inputs))

    model = keras.Model(z, BentProduct()([z, z]))
    assert degree(model) is None and count_products(model) == 0


def test_costs_that_a_subclass_states():
    class Costing(bent(CCP)):
        def multiply_adds(self, input_shape):
            return 7, input_shape[-1]

    class Stating(CCP):
        def multiply_adds(self, input_shape):
            return 11

    class Overriding(Costing):
        def call(self, z, training=None):
            return ops.relu(z)

    for cls, costs, expected in (
        (Costing, (7, 4), None),
        (Stating, (11, 0), 2),
        (Overriding, (None, None), None),
    ):
        model = between_maps(cls(4, 2, rank=3))
        (row,) = (row for row in polynomial_summary(model).rows if row.kind == cls.__name__)
        assert (row.multiply_adds, row.products) == costs
        assert row.degree == expected


class Powers(CCP):
    """x_1 = U_1 z, x_2 = (U_2 z) * ((U_2 z) * x_1) + 2 x_1, and no read-out."""

    def recursion(self, on, z):
        U_1, U_2 = self.factors
        x, factor = on.apply(U_1, z), on.apply(U_2, z)
        (step,) = self.steps
        return on.step(step, factor, on.product(ops.multiply, factor, x), carry=on.scale(2.0, x))


def test_a_recursion_of_its_own_is_read():
    layer = Powers(None, 2, rank=4)
    model = between_maps(layer)
    assert stated_by_class(layer) == "polynomial"
    assert degree(model) == 3
    parts = contributions(model, X)
    assert len(parts) == 4
    np.testing.assert_allclose(parts.sum(0), numpy(model(X)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(numpy(truncate(model, 3)(X)), numpy(model(X)), rtol=1e-5, atol=1e-5)
    (row,) = (row for row in polynomial_summary(model).rows if row.kind == "Powers")
    # Two maps of 4 by 4 at five places, two products and the 2.
    assert (row.degree, row.multiply_adds, row.products) == (3, 5 * 2 * 16, 5 * 3 * 4)
    report = encryption_report(model)
    # Before, U_n and 2 or U_n, after.
    assert (report.ready, report.multiplicative_depth, report.plaintext_depth, report.levels) == (True, 2, 4, 5)


def test_a_recursion_below_a_class_that_is_no_polynomial_says_nothing_of_the_class():
    class Recursive(SpiralConv):
        def recursion(self, on, z):
            return on.product(ops.multiply, z, z)

    assert stated_by_class(Recursive(4, SPIRALS)) is None


def test_what_is_registered_holds_until_a_class_below_computes_something_else():
    class Cube(keras.layers.Layer):
        def call(self, x):
            return x * x * x

    class Renamed(Cube):
        pass

    class Bent(Renamed):
        def call(self, x):
            return ops.relu(x)

    class Doubled(Bent):
        acts_as = "linear"

        def call(self, x):
            return 2 * x

    register_layer(Cube, lambda degree: 3 * degree)
    assert [degree(keras.Sequential([keras.Input((4,)), cls()])) for cls in (Cube, Renamed, Bent, Doubled)] == [
        3,
        3,
        None,
        1,
    ]


# Files that may name classes of layers, with the reason.
NAMES_LAYERS = {
    # It builds `Injection` layers, and raises the order of the residual blocks of Sec. 5.2 and of no other layer.
    "convert.py": {"Injection", "PolynomialResidual"},
}
OURS = {
    node.name
    for path in (Path(layers.__file__).parent).rglob("*.py")
    for node in ast.parse(path.read_text("utf-8")).body
    if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
}
# What reads recursions, and a step of one, are no layers.
NO_LAYERS = {"Interpreter", "Tensors", "Step"}


def layers_named(path):
    """Returns the classes of our layers that a file names in code or as a string, docstrings apart."""
    tree = ast.parse(path.read_text("utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
    }
    # Those that the file defines itself are no classes of `pinets_tf.layers`.
    names = OURS - NO_LAYERS
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pinets_tf"):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("layers", "pinets_tf.layers"):
            found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found.add(node.value)
    return found & names


FILES = sorted(Path(pinets_tf.analysis.__file__).parent.rglob("*.py"))


def test_names_are_found():
    assert {"CCP", "PolynomialResidual", "HornerLayer", "ProductBatchNormalization", "KernelWrapper"} <= OURS
    assert len(FILES) > 15


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_analysis_names_a_class_of_layers(path):
    assert layers_named(path) == NAMES_LAYERS.get(path.name, set())
