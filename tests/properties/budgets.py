"""How many cases each property gets in `make test-long` and in `make test`, and how they are drawn."""

import atexit
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, configuration, given, settings

# Hypothesis keeps what it computes about characters in a folder, which is not to stay beside the tests.
_HOME = tempfile.mkdtemp(prefix="hypothesis-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
configuration.set_hypothesis_home_dir(_HOME)

# Cases of `make test-long` at least; `make test` has a tenth of each.
LEAST, SHARE = 2000, 10
LAYERS = {
    "BatchNormalization": 20,
    "CCP": 40,
    "EqualizedLearningRate": 25,
    "FeaStConv": 20,
    "GATConv": 20,
    "GMMConv": 20,
    "Injection": 35,
    "LogMelSpectrogram": 20,
    "NCP": 40,
    "NCPSkip": 40,
    "PolynomialResidual": 35,
    "PooledProduct": 30,
    "ProdPoly": 20,
    "SpectralNormalization": 25,
    "SpiralConv": 20,
    "SpiralPolynomial": 30,
    "VertexResample": 20,
    "VertexStandardization": 20,
}
FILES = {
    "obj": 150,
    "off": 100,
    "ply": 200,
    "stl": 100,
    "shapes.npz": 120,
    "registrations": 120,
    "images.npz": 120,
    "pictures.npz": 60,
    "picture": 200,
    "photograph": 100,
    "clip": 150,
    "records": 60,
    "batches": 5,
    "statistics": 100,
    "inputs.npy": 60,
    "labels": 20,
    "network": 60,
    "weights": 60,
    "history": 30,
    "checkpoint": 40,
}

# Derandomised, so that a run of `make test` repeats; the long mode draws other cases each time.
in_both_modes = pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.long)], ids=["ci", "long"])


def hold(check, cases, examples, long):
    """Runs `check` on so many different cases, or on a tenth of them, and returns what it returned for each."""
    returned = []
    examples = examples if long else -(-examples // SHARE)

    def keep(case):
        returned.append(check(case))

    settled = settings(
        max_examples=examples,
        deadline=None,
        derandomize=not long,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    settled(given(cases)(keep))()
    assert len(returned) >= examples, "there are fewer different cases than promised"
    return returned
