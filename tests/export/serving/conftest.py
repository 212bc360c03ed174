"""A tiny SavedModel, files to send, and a stand-in that serves it over both protocols."""

import contextlib
import types

import numpy as np
import pytest
import tensorflow as tf

from tests.export.serving import models, stand_in


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "tiny" / "1"
    models.write_model(folder)
    return folder


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Two images, a sound and two arrays, in a folder."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (2, 8, 6, 3)).astype("uint8")
    (folder / "cat.jpg").write_bytes(tf.io.encode_jpeg(pixels[0]).numpy())
    (folder / "dog.png").write_bytes(tf.io.encode_png(pixels[1]).numpy())
    (folder / "yes.wav").write_bytes(tf.audio.encode_wav([[0.0], [0.5], [-0.25]], 16000).numpy())
    np.save(folder / "images.npy", random.uniform(size=(5, models.SIDE, models.SIDE, 3)))
    np.save(folder / "latents.npy", np.array([[0.0, 1.0], [-1.0, 0.2]], "float32"))
    return folder


@pytest.fixture(scope="session")
def loaded(saved_model):
    return stand_in.Model(saved_model)


@pytest.fixture(scope="session")
def addresses(loaded):
    with contextlib.ExitStack() as stack:
        yield {
            "grpc": stack.enter_context(stand_in.serve_grpc(loaded)),
            "rest": stack.enter_context(stand_in.serve_rest(loaded)),
        }


@pytest.fixture
def server(addresses, loaded):
    """What is served, without faults and requests of other tests."""
    loaded.faults.clear()
    loaded.requests.clear()
    return types.SimpleNamespace(addresses=addresses, model=loaded)
