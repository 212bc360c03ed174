"""The tests of the errors that docstrings of `pinets_tf.analysis` document."""

import keras
import numpy as np

from pinets_tf.analysis import first_not_finite
from tests.documented_errors.provoking import Case

TESTED: dict[str, dict[str, list[str | Case]]] = {
    "analysis.coefficients.coefficients": {
        "NotPolynomial": ["tests/analysis/test_coefficients.py::test_errors"],
        "ValueError": ["tests/analysis/test_coefficients.py::test_errors"],
    },
    "analysis.coefficients.evaluate": {"ValueError": ["tests/analysis/test_coefficients.py::test_errors"]},
    "analysis.collapse_affine.collapse_affine": {
        "ValueError": ["tests/analysis/test_collapse_affine.py::test_says_what_it_takes"]
    },
    "analysis.convert.convert": {
        "ValueError": ["tests/analysis/test_conversion.py::test_says_what_cannot_be_converted"]
    },
    "analysis.degree.degree": {"ValueError": ["tests/analysis/test_degree.py::test_errors"]},
    "analysis.degree.first_not_polynomial": {"ValueError": ["tests/analysis/test_degree.py::test_errors"]},
    "analysis.encryption.encryption_report": {
        "ValueError": ["tests/analysis/test_encryption.py::test_says_what_it_takes"],
    },
    "analysis.finiteness.first_not_finite": {
        "ValueError": [
            Case(
                lambda path: first_not_finite(keras.layers.Dense(2), np.ones((2, 4))),
                "computed with the weights that it has",
                "which is not a Keras layer, or has no weights yet",
                "Pass a model that was built",
            )
        ],
    },
    "analysis.fit_polynomial.fit_polynomial": {
        "ValueError": [
            "tests/analysis/test_fitting.py::test_says_what_cannot_be_fitted",
            "tests/analysis/test_fitting.py::test_counts_its_starts",
            "tests/models/test_changed_weights.py::test_a_layer_with_adapters_is_not_fitted",
        ]
    },
    "analysis.contributions.contributions": {
        "NotPolynomial": ["tests/analysis/test_contributions.py::test_errors"],
        "ValueError": ["tests/analysis/test_contributions.py::test_errors"],
    },
    "analysis.truncate.truncate": {
        "NotPolynomial": ["tests/analysis/test_contributions.py::test_errors"],
        "ValueError": ["tests/analysis/test_contributions.py::test_errors"],
    },
    "analysis.grow.grow": {"ValueError": ["tests/analysis/test_growth.py::test_says_why_a_layer_cannot_grow"]},
    "analysis.without_products.without_products": {
        "ValueError": [
            "tests/models/test_generators.py::test_there_are_so_many_products",
            "tests/analysis/test_graphs.py::test_models_that_call_something_else_are_refused",
            "tests/analysis/test_without_products.py::test_products_that_sum_are_computed_or_refused",
            "tests/analysis/test_without_products.py::test_what_others_say_of_it",
        ],
    },
    "analysis.summary.polynomial_summary": {
        "ValueError": ["tests/analysis/test_summary.py::test_says_what_it_takes"],
    },
    "analysis.kinds.register_layer": {"ValueError": ["tests/analysis/test_degree.py::test_errors_of_registering"]},
}
