"""A stand-in for TensorFlow Serving in this process: its documented gRPC and REST over `tf.saved_model`.

It is written from the documentation, and shows that the client speaks what that says, not what the real server does.
"""

import base64
import contextlib
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

CODES = {code.value[0]: code for code in grpc.StatusCode}
HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504}
PREDICT = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?:predict")
STATUS = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(/metadata)?")
AS_SERVED = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
NAME, VERSION, LABEL = "tiny", 1, "stable"


class Refused(Exception):
    """An error of the server: a name of gRPC's codes, and a message."""


class Model:
    """The model `tiny`, version 1, label stable.

    Each of `faults` is for one prediction: None, a code that it ends with, or an event that it waits for.
    `requests` are the signature and the number of samples of each prediction that was asked for.
    """

    def __init__(self, folder):
        self.loaded = tf.saved_model.load(str(folder))
        saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
        definitions = saved_model.meta_graphs[0].signature_def
        self.definitions = {name: definitions[name] for name in definitions if not name.startswith("__")}
        self.faults, self.requests = [], []

    def check(self, name, version, label):
        if name != NAME or version not in (None, VERSION) or label not in (None, LABEL):
            raise Refused("NOT_FOUND", f"Servable not found for request: {name} {version or label or 'Latest'}")

    def status(self, name, version, label):
        self.check(name, version, label)
        answer = get_model_status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=VERSION, state="AVAILABLE").status.error_code = 0
        return answer

    def metadata(self, name, version, label):
        self.check(name, version, label)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for key, definition in self.definitions.items():
            signatures.signature_def[key].CopyFrom(definition)
        return signatures

    def definition(self, signature):
        if signature not in self.definitions:
            raise Refused("INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def')
        return self.definitions[signature]

    def predict(self, name, version, label, signature, inputs):
        self.requests.append((signature, max((len(value) for value in inputs.values()), default=0)))
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, str):
                raise Refused(fault, "the server is busy")
            if fault:
                fault.wait()
        self.check(name, version, label)
        expected = self.definition(signature).inputs
        if set(inputs) != set(expected):
            raise Refused("INVALID_ARGUMENT", f"inputs: {','.join(sorted(inputs))} expected: {','.join(expected)}")
        try:
            tensors = {key: tf.constant(value, expected[key].dtype) for key, value in inputs.items()}
            return {key: value.numpy() for key, value in self.loaded.signatures[signature](**tensors).items()}
        except tf.errors.OpError as error:
            raise Refused(CODES[error.error_code].name, error.message) from error


@contextlib.contextmanager
def serve_grpc(model):
    """Serves a model, and gives the address."""
    server = grpc.server(ThreadPoolExecutor(4))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(model), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(model), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def answered(method):
    """Makes a method of a servicer abort with what the model refuses."""

    def call(self, request, context):
        spec = request.model_spec
        version = spec.version.value if spec.HasField("version") else None
        try:
            return method(self, request, (spec.name, version, spec.version_label or None))
        except Refused as refused:
            code, message = refused.args
            context.abort(grpc.StatusCode[code], message)

    return call


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model):
        self.model = model

    @answered
    def Predict(self, request, which):
        signature = request.model_spec.signature_name or "serving_default"
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        outputs = self.model.predict(*which, signature, inputs)
        answer = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return answer

    @answered
    def GetModelMetadata(self, request, which):
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        answer.metadata["signature_def"].Pack(self.model.metadata(*which))
        return answer


class Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, model):
        self.model = model

    @answered
    def GetModelStatus(self, request, which):
        return self.model.status(*which)


@contextlib.contextmanager
def serve_rest(model):
    """Serves a model, and gives the address."""
    handler = type("Handler", (Handler,), {"model": model})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # An answer is one packet, so that no acknowledgement is waited for.

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.answer(self.describe)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(lambda: self.predict(body))

    def answer(self, make):
        try:
            status, document = 200, make()
        except Refused as refused:
            code, message = refused.args
            status, document = HTTP_STATUS.get(code, 500), {"error": message}
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # Of a client that did not wait.
            self.wfile.write(content)

    def which(self, pattern):
        found = pattern.fullmatch(self.path)
        if not found:
            raise Refused("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
        name, version, label, *rest = found.groups()
        return (name, int(version) if version else None, label), *rest

    def describe(self):
        which, metadata = self.which(STATUS)
        if not metadata:
            return json_format.MessageToDict(self.model.status(*which), **AS_SERVED)
        signatures = json_format.MessageToDict(self.model.metadata(*which), **AS_SERVED)
        spec = {"name": NAME, "signature_name": "", "version": str(VERSION)}
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def predict(self, body):
        (which,) = self.which(PREDICT)
        try:
            request = json.loads(body)
        except ValueError as error:
            raise Refused("INVALID_ARGUMENT", "JSON Parse error: Invalid value.") from error
        signature = request.get("signature_name", "serving_default")
        expected = self.model.definition(signature).inputs
        rows = "instances" in request
        values = request["instances"] if rows else request["inputs"]
        named = isinstance(values[0] if rows else values, dict) and "b64" not in (values[0] if rows else values)
        if not named:
            values = dict.fromkeys(expected, values)
        elif rows:
            values = {key: [row[key] for row in values] for key in values[0]}
        inputs = {}
        for key, value in values.items():
            if key not in expected:
                raise Refused("INVALID_ARGUMENT", f"JSON object: does not have named input: {key}")
            inputs[key] = from_json(value, tf.as_dtype(expected[key].dtype))
        outputs = {key: to_json(key, value) for key, value in self.model.predict(*which, signature, inputs).items()}
        if len(outputs) == 1:
            (outputs,) = outputs.values()
        elif rows:
            outputs = [dict(zip(outputs, row)) for row in zip(*outputs.values())]
        return {"predictions" if rows else "outputs": outputs}


def from_json(value, kind):
    def leaf(value):
        if isinstance(value, list):
            return [leaf(each) for each in value]
        if kind == tf.string and isinstance(value, dict):
            return base64.b64decode(value["b64"])
        if kind == tf.string and isinstance(value, str):
            return value.encode()
        if kind == tf.string or not isinstance(value, (int, float)) or (kind.is_integer and isinstance(value, float)):
            raise Refused("INVALID_ARGUMENT", f"JSON Value: {value} is not of expected type: {kind.name}")
        return value

    return np.array(leaf(value), object if kind == tf.string else kind.as_numpy_dtype)


def to_json(name, array):
    if array.dtype != object:
        return array.tolist()
    binary = name.endswith("_bytes")
    return [{"b64": base64.b64encode(text).decode()} if binary else text.decode() for text in array]
