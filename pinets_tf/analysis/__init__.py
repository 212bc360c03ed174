"""What a polynomial network is: its degree, its terms, its products, and where its numbers stop being finite."""

from pinets_tf.analysis.coefficients import Coefficients, coefficients, evaluate
from pinets_tf.analysis.convert import ConversionReport, convert
from pinets_tf.analysis.degree import degree, first_not_polynomial
from pinets_tf.analysis.encryption import EncryptionObstacle, EncryptionReport, encrypted_ready
from pinets_tf.analysis.finiteness import NotFinite, first_not_finite
from pinets_tf.analysis.fit_polynomial import fit
from pinets_tf.analysis.grading import contributions, truncate
from pinets_tf.analysis.grow import grow
from pinets_tf.analysis.products import count_products, product_stages, without_products
from pinets_tf.analysis.rules import NotPolynomial, register_layer
from pinets_tf.analysis.summary import BlockSummary, PolynomialSummary, polynomial_summary

__all__ = [
    "BlockSummary",
    "Coefficients",
    "ConversionReport",
    "EncryptionObstacle",
    "EncryptionReport",
    "NotFinite",
    "NotPolynomial",
    "PolynomialSummary",
    "coefficients",
    "contributions",
    "convert",
    "count_products",
    "degree",
    "encrypted_ready",
    "evaluate",
    "first_not_finite",
    "first_not_polynomial",
    "fit",
    "grow",
    "polynomial_summary",
    "product_stages",
    "register_layer",
    "truncate",
    "without_products",
]
