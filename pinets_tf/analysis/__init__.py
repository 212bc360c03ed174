"""What a polynomial network is: its degree."""

from pinets_tf.analysis.degree import NotPolynomial, degree

__all__ = ["NotPolynomial", "degree"]
