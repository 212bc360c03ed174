"""A copy of a model shares no array with it: JAX deletes those of a model that is trained or predicts."""

import keras
import numpy as np
import pytest

from pinets_tf.analysis import grow, without_products
from pinets_tf.layers import NCPSkip
from pinets_tf.models import fold_normalization
from tests.conformance.cases import numpy

COPIES = {
    "grow": lambda model: grow(model, 3),
    "fold_normalization": fold_normalization,
    "without_products": lambda model: without_products(model, 1),
}


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="elsewhere variables share no arrays")
@pytest.mark.parametrize("name", COPIES)
def test_the_model_stays_when_its_copy_is_used(name):
    layer = NCPSkip(3, 2, rank=4, learn_skip=True, normalize="batch", gate=True)
    model = keras.Sequential([keras.Input((5,)), layer, keras.layers.Dense(2)])
    z = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    expected = numpy(model(z))
    copy = COPIES[name](model)
    np.testing.assert_allclose(copy.predict_on_batch(z), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(numpy(model(z)), expected)
