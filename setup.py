"""Packaging of pinets_tf."""

from pathlib import Path

from setuptools import find_packages, setup

EXTRAS = {
    # TensorFlow Datasets 4.9.10 imports importlib_resources and does not require it.
    "data": ["importlib-resources>=6", "tensorflow-datasets>=4.9.9"],
    "audio": ["tensorflow-io>=0.37; python_version < '3.13'"],
    # TensorFlow Graphics is for a comparison in the tests alone, and its requirements no longer install together.
    "mesh": ["h5py>=3.11", "scipy>=1.13", "trimesh>=4.5"],
    "serving": ["tensorflow-serving-api>=2.19"],
    "tflite": ["ai-edge-litert>=2.0"],
    "int8": ["litert-quantizer>=0.11"],
    "onnx": ["onnx>=1.18", "onnxruntime>=1.20", "tf2onnx>=1.17"],
    "openvino": ["openvino>=2025.0"],
    "encrypted": ["tenseal>=0.3.16"],
    "examples": ["absl-py>=2.1", "matplotlib>=3.9", "scikit-learn>=1.5", "tensorboard>=2.19"],
    "benchmark": ["torch>=2.4"],
}
# What the tests need: the package's own extras that they use, and the second backend.
EXTRAS["test"] = [
    *EXTRAS["data"],
    *EXTRAS["encrypted"],
    *EXTRAS["examples"],
    *EXTRAS["int8"],
    *EXTRAS["mesh"],
    *EXTRAS["onnx"],
    *EXTRAS["openvino"],
    *EXTRAS["serving"],
    *EXTRAS["tflite"],
    "hypothesis>=6.100",
    "jax>=0.5",
    "librosa>=0.10",
    "mypy>=1.13",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.8",
]
EXTRAS["all"] = sorted({package for name, packages in EXTRAS.items() if name != "benchmark" for package in packages})

setup(
    name="pinets_tf",
    version="0.1.0",
    description="Π-nets: deep polynomial neural networks as Keras 3 layers, with TensorFlow training and export",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["pinets_tf", "pinets_tf.*"]),
    package_data={"pinets_tf": ["py.typed", "data/*.npz", "data/*.LICENSE"]},
    # Plain `tensorflow`, not `tensorflow-cpu`: packages of our extras require the plain one, and both share a folder.
    install_requires=["keras>=3.15", "numpy>=1.26", "pillow>=10.1", "tensorflow>=2.21"],
    extras_require=EXTRAS,
)
