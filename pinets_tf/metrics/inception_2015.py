"""The Inception graph of 2015, which published scores are of, from a local file."""

import hashlib
from pathlib import Path

import numpy as np

from pinets_tf.metrics.pixels import checked_images

FEATURES, CLASSES = 2048, 1008
INPUT, POOLED, PRODUCT = "ExpandDims", "pool_3", "softmax/logits/MatMul"
# A graph is a program, and may write files too: those operations of this one that lead from its input to its features.
OPERATIONS = {
    *("AvgPool", "BiasAdd", "CheckNumerics", "Concat", "ConcatV2", "Const", "Conv2D", "FusedBatchNorm", "Identity"),
    *("MatMul", "MaxPool", "Mul", "OnesLike", "Placeholder", "Relu", "Reshape", "ResizeBilinear", "Sub"),
}
WANTED = "the frozen graph classify_image_graph_def.pb of inception-2015-12-05"


class Inception2015:
    """Features and logits of the frozen Inception graph of 2015: the scores that may be called FID, IS and KID.

    Images of any size in [0, 255] enter the graph, which resizes them to 299x299 by TensorFlow 1's bilinear rule,
    without antialiasing. Features are `pool_3`, logits are pool_3 times the matrix of the last layer, without its bias,
    for 1,008 classes, as in the scripts of TTUR and improved-gan. TensorFlow runs it, whatever the Keras backend.

    The graph is written for one image at a time, and its normalisations are operations that TensorFlow no longer runs
    in functions (2.21: "has been removed in version 9"). Both are changed on reading, and the numbers are not.

    The file `classify_image_graph_def.pb` is in the archive `inception-2015-12-05.tgz`, which TensorFlow's tutorial on
    image recognition and the scripts of TTUR and improved-gan download. It was not at hand when this was written: that
    graphs of its structure are read and run is tested, and no score of the file itself was checked. `network` has the
    beginning of the SHA-256 of the file that was read.

    Args:
        path: the file.

    Calling:
        With uint8 images (n, height, width, 3), or (n, height, width, 1), which are tiled to three channels. Returns
        features, float32 (n, 2048), and logits, float32 (n, 1008), as NumPy arrays.

    Raises:
        FileNotFoundError: if there is no such file.
        ImportError: if TensorFlow is not installed.
        ValueError: if the file is no graph, or lacks the nodes of this one, or they have other sizes.

    Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016; Heusel et al.,
    NeurIPS 2017; Salimans et al., NeurIPS 2016.
    """

    suffix = ""
    resize = "in the graph, to 299x299, bilinear without antialiasing (TensorFlow 1)"

    def __init__(self, path):
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"FID, IS and KID are scores of {WANTED}. Received: {path.name!r}, which is not in "
                f"{path.resolve().parent}. Put it there, or score with another network, such as EfficientNetLite0."
            )
        try:
            import tensorflow as tf
        except ImportError as error:
            raise ImportError(
                f"The Inception graph of 2015 runs by TensorFlow. Received: it is not installed ({error}). "
                "Install it with: pip install tensorflow. A KerasExtractor runs on every Keras backend."
            ) from error
        content = path.read_bytes()
        graph = tf.compat.v1.GraphDef()
        try:
            graph.ParseFromString(content)
        except Exception as error:  # Of a class that depends on the implementation of protobuf.
            raise _NotThisGraph(path, f"{len(content):,} bytes that are no graph") from error
        self.network = f"Inception 2015-12-05 (sha256 {hashlib.sha256(content).hexdigest()[:12]}), pool_3"
        try:
            self._function = _prepared(tf, graph, path)
            self(np.zeros((2, 8, 8, 3), "uint8"))
        except _NotThisGraph:
            raise
        except Exception as error:  # Of many classes, those of TensorFlow and of nodes without what they need.
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise _NotThisGraph(path, f"a graph that does not run ({reason})") from error

    def __call__(self, images):
        features, logits = self._function(checked_images(images).astype("float32"))
        return np.asarray(features), np.asarray(logits)


def _prepared(tf, graph, path):
    """Returns a function from images (n, h, w, 3), float32, to features and logits."""
    nodes = {node.name: node for node in graph.node}
    missing = [name for name in (INPUT, POOLED, PRODUCT) if name not in nodes]
    if missing:
        raise _NotThisGraph(path, f"a graph of {len(nodes)} nodes without {', '.join(missing)}")
    matrix = nodes[PRODUCT].input[1].split(":")[0]
    # What comes before the input reads one JPEG.
    nodes[INPUT].op = "Placeholder"
    nodes[INPUT].ClearField("input")
    nodes[INPUT].ClearField("attr")
    nodes[INPUT].attr["dtype"].type = tf.float32.as_datatype_enum
    for node in list(graph.node):
        # Shapes inferred for a batch of one.
        node.attr.pop("_output_shapes", None)
        if node.op == "BatchNormWithGlobalNormalization":
            _replace_normalization(graph, node)
    graph = tf.compat.v1.graph_util.extract_sub_graph(graph, [POOLED, matrix])
    foreign = sorted({node.op for node in graph.node} - OPERATIONS)
    if foreign:
        raise _NotThisGraph(path, f"a graph that has the operations {', '.join(foreign)} too")

    def features_and_logits(images):
        wanted = [f"{POOLED}:0", f"{matrix}:0"]
        try:
            pooled, weights = tf.graph_util.import_graph_def(graph, {f"{INPUT}:0": images}, wanted, name="")
        except ValueError as error:
            raise _NotThisGraph(path, f"a graph that cannot be imported ({error})") from error
        if pooled.shape[1:] != (1, 1, FEATURES) or weights.shape != (FEATURES, CLASSES):
            raise _NotThisGraph(path, f"{POOLED} of shape {pooled.shape} and a last matrix of shape {weights.shape}")
        features = tf.squeeze(pooled, (1, 2))
        return features, tf.matmul(features, weights)

    signature = [tf.TensorSpec((None, None, None, 3), tf.float32)]
    return tf.compat.v1.wrap_function(features_and_logits, signature)


def _replace_normalization(graph, node):
    """Makes TensorFlow's first batch normalisation the present one, whose inputs come in another order."""
    image, mean, variance, offset, scale, *control = node.input
    epsilon, dtype = node.attr["variance_epsilon"].f, node.attr["T"].type
    if not node.attr["scale_after_normalization"].b:
        ones = graph.node.add(name=f"{node.name}/ones", op="OnesLike", input=[scale])
        ones.attr["T"].type = dtype
        scale = ones.name
    node.op = "FusedBatchNorm"
    node.ClearField("input")
    node.ClearField("attr")
    node.input.extend([image, scale, offset, mean, variance, *control])
    node.attr["T"].type = dtype
    node.attr["epsilon"].f = epsilon
    node.attr["is_training"].b = False
    node.attr["data_format"].s = b"NHWC"


class _NotThisGraph(ValueError):
    def __init__(self, path, received):
        super().__init__(
            f"FID, IS and KID are scores of {WANTED}, with the nodes {INPUT}, {POOLED} of {FEATURES} features and "
            f"{PRODUCT} of {CLASSES} classes. Received: {path} with {received}. "
            "Pass that file, or score with a KerasExtractor."
        )
