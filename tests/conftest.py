"""Two logical CPUs for TensorFlow, and the same random state before every test."""

import gc
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# JAX makes float32 of float64 otherwise, and degrees are measured in float64.
os.environ.setdefault("JAX_ENABLE_X64", "1")

import keras
import pytest

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def pytest_addoption(parser):
    parser.addoption("--cases", help="a module whose CASES are tested in the place of the layers of the package")


def pytest_configure(config):
    if config.getoption("--cases"):
        os.environ["PINETS_TF_CASES"] = config.getoption("--cases")


def pytest_collection_finish():
    # What the imports made stays, and need not be looked through again each time that garbage is collected.
    gc.freeze()


@pytest.fixture(autouse=True)
def _fresh_state():
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def heard():
    """Signals that are not ignored, as a shell that starts the tests may have it."""
    handlers = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
