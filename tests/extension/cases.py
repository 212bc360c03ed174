"""The layers of this folder, in the variants that matter."""

import dataclasses

from tests.conformance.cases import Case, on_images, on_vectors
from tests.extension.chebyshev import Chebyshev
from tests.extension.fibonacci import Fibonacci

CASES = {
    "Chebyshev": on_vectors(Chebyshev),
    "Chebyshev-gate-batch": dataclasses.replace(on_vectors(Chebyshev, normalize="batch", gate=True), degree=1),
    "Chebyshev-conv-batch": on_images(Chebyshev, normalize="batch"),
    "Fibonacci": dataclasses.replace(on_vectors(Fibonacci, 5), degree=8),
    "Fibonacci-batch": dataclasses.replace(on_vectors(Fibonacci, 4, normalize="batch"), degree=5),
}
# For the analysis alone.
MORE = {
    "Chebyshev-tanh": dataclasses.replace(on_vectors(Chebyshev, normalize="tanh", normalize_at="last"), degree=None),
    "Fibonacci-sequence": Case(Fibonacci, lambda **options: Fibonacci(4, 3, rank=6, **options), (7, 5), 3),
    "Fibonacci-order-1": on_vectors(Fibonacci, 1),
}
