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
    "BatchNormalization": 25,
    "CCP": 60,
    "EqualizedLearningRate": 35,
    "FeaStConv": 25,
    "GATConv": 25,
    "GMMConv": 25,
    "Injection": 50,
    "LogMelSpectrogram": 25,
    "NCP": 60,
    "NCPSkip": 60,
    "PolynomialResidual": 50,
    "PooledProduct": 45,
    "ProdPoly": 25,
    "SpectralNormalization": 35,
    "SpiralConv": 25,
    "SpiralPolynomial": 45,
    "VertexResample": 25,
    "VertexStandardization": 25,
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
