"""How many cases each property gets in a run of CI and in the long mode, and how they are drawn."""

import atexit
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, configuration, given, settings

# Hypothesis keeps what it computes about characters in a folder, which is not to stay beside the tests.
_HOME = tempfile.mkdtemp(prefix="hypothesis-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
configuration.set_hypothesis_home_dir(_HOME)

# Cases of a run of CI; `make test-long` has so many times more.
LEAST, LONG = 2000, 20
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

# Derandomised, so that a run of CI repeats; the long mode draws other cases each time.
in_both_modes = pytest.mark.parametrize("times", [1, pytest.param(LONG, marks=pytest.mark.long)], ids=["ci", "long"])


def hold(check, cases, examples, times):
    """Runs `check` on `examples * times` different cases, and returns what it returned for each."""
    returned = []

    def keep(case):
        returned.append(check(case))

    settled = settings(
        max_examples=examples * times,
        deadline=None,
        derandomize=times == 1,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    settled(given(cases)(keep))()
    assert len(returned) >= examples * times, "there are fewer different cases than promised"
    return returned
