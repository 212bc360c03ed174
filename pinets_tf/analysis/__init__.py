"""What a polynomial network is: its degree, its products, and where its numbers stop being finite."""

from pinets_tf.analysis.degree import NotPolynomial, degree
from pinets_tf.analysis.finiteness import NotFinite, first_not_finite
from pinets_tf.analysis.products import count_products, product_stages, without_products

__all__ = [
    "NotFinite",
    "NotPolynomial",
    "count_products",
    "degree",
    "first_not_finite",
    "product_stages",
    "without_products",
]
