"""What a polynomial network is: its degree, its products."""

from pinets_tf.analysis.degree import NotPolynomial, degree
from pinets_tf.analysis.products import count_products, product_stages, without_products

__all__ = ["NotPolynomial", "count_products", "degree", "product_stages", "without_products"]
