"""Each layer is a polynomial of exactly its degree at inference, or none, as its documentation says."""

import numpy as np

from tests.conformance.cases import every_layer, randomise
from tests.polynomial_degree import assert_polynomial_degree, differences, normalises_in_float64


def of_one_input(layer, case):
    """Returns the layer as a function of one array, in which several inputs lie one after another, and its shape."""
    if isinstance(case.shape, tuple):
        return layer, case.shape
    ends = np.cumsum([np.prod(shape) for shape in case.shape])

    def function(values):
        parts = np.split(values, ends[:-1], axis=1)
        return layer([part.reshape(-1, *shape) for part, shape in zip(parts, case.shape)])

    return function, (int(ends[-1]),)


@normalises_in_float64
@every_layer
def test_degree_at_inference(case):
    layer = case.make(dtype="float64")
    layer.build(case.input_shape)
    gated = getattr(layer, "gate", False)
    if not gated:
        randomise(layer)
    function, shape = of_one_input(layer, case)
    if case.degree is not None:
        assert_polynomial_degree(function, shape, case.degree)
    else:
        rng = np.random.default_rng(3)
        _, above, rounding = differences(
            function, rng.normal(size=shape), rng.normal(size=shape), getattr(layer, "order", 1)
        )
        assert above > 1e4 * rounding
