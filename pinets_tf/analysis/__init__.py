"""What a polynomial network is: its degree, its terms, its products, and where its numbers stop being finite."""

import warnings

from pinets_tf.analysis.coefficients import Coefficients, coefficients, evaluate
from pinets_tf.analysis.collapse_affine import collapse_affine
from pinets_tf.analysis.contributions import contributions
from pinets_tf.analysis.convert import ConversionReport, convert
from pinets_tf.analysis.degree import degree, first_not_polynomial
from pinets_tf.analysis.encryption import EncryptionObstacle, EncryptionReport, encryption_report
from pinets_tf.analysis.finiteness import NotFinite, first_not_finite
from pinets_tf.analysis.fit_polynomial import fit_polynomial
from pinets_tf.analysis.grow import grow
from pinets_tf.analysis.kinds import NotPolynomial, register_layer
from pinets_tf.analysis.summary import BlockSummary, PolynomialSummary, polynomial_summary
from pinets_tf.analysis.truncate import truncate
from pinets_tf.analysis.without_products import count_products, product_stages, without_products

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
    "collapse_affine",
    "contributions",
    "convert",
    "count_products",
    "degree",
    "encryption_report",
    "evaluate",
    "first_not_finite",
    "first_not_polynomial",
    "fit_polynomial",
    "grow",
    "polynomial_summary",
    "product_stages",
    "register_layer",
    "truncate",
    "without_products",
]

# Until the next version.
_RENAMED = {"fit": fit_polynomial, "encrypted_ready": encryption_report}


def __getattr__(name):
    if name not in _RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _RENAMED[name]
    message = f"`{name}` is called `{new.__name__}`. Use that: the next version is without the old name."
    warnings.warn(message, DeprecationWarning, stacklevel=2)
    return new
