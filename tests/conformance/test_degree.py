"""Each layer is a polynomial of exactly its degree at inference, or none, as its documentation says."""

import numpy as np

from tests.conformance.cases import every_layer, randomise
from tests.polynomial_degree import assert_polynomial_degree, differences, normalises_in_float64


@normalises_in_float64
@every_layer
def test_degree_at_inference(case):
    layer = case.make(dtype="float64")
    layer.build((None, *case.shape))
    gated = getattr(layer, "gate", False)
    if not gated:
        randomise(layer)
    if case.degree is not None:
        assert_polynomial_degree(layer, case.shape, case.degree)
        assert gated or case.degree == getattr(layer, "order", 1)
    else:
        rng = np.random.default_rng(3)
        _, above, rounding = differences(
            layer, rng.normal(size=case.shape), rng.normal(size=case.shape), getattr(layer, "order", 1)
        )
        assert above > 1e4 * rounding
