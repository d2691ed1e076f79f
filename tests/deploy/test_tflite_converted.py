"""Models that TensorFlow's converter makes: every tensor as the runtimes have it."""

import numpy as np
import pytest

from refqnn.deploy import import_tflite
from refqnn.deploy.formats.tflite_graph import RANGES
from refqnn.deploy.formats.tflite_read import parse_model
from refqnn.deploy.formats.tflite_run import RESOLVERS, tflite_trace
from refqnn.deploy.operations import dequantize32, quantize32

pytestmark = [
    pytest.mark.compiled,
    pytest.mark.filterwarnings("ignore:Statistics for quantized inputs"),
]


def normed(layers, x, layer, *, relu=6.0):
    """A layer, its batch norm, a rectifier."""
    x = layers.BatchNormalization()(layer(x))
    return layers.ReLU(relu)(x) if relu else x


def mobilenet(keras):
    """Inverted residuals, strides, a mean, products, softmax."""
    layers = keras.layers
    first = layers.Input((32, 32, 3), batch_size=1)

    def conv(x, channels, kernel=1, stride=1, relu=6.0):
        layer = layers.Conv2D(channels, kernel, stride, "same", use_bias=False)
        return normed(layers, x, layer, relu=relu)

    def block(x, channels, stride):
        deep = layers.DepthwiseConv2D(3, stride, "same", use_bias=False)
        y = normed(layers, conv(x, 4 * x.shape[-1]), deep)
        y = conv(y, channels, relu=0)
        return layers.Add()([x, y]) if x.shape == y.shape else y

    x = conv(first, 16, 3, 2)
    for channels, stride in ((16, 1), (24, 2), (24, 1), (32, 2), (32, 1)):
        x = block(x, channels, stride)
    x = layers.GlobalAveragePooling2D()(conv(x, 64))
    return keras.Model(first, layers.Softmax()(layers.Dense(10)(x)))


def keywords(keras):
    """Depthwise separable layers over a spectrogram, batches of any size."""
    layers = keras.layers
    first = layers.Input((49, 10, 1))
    x = normed(layers, first, layers.Conv2D(32, (10, 4), 2, "same"), relu=None)
    for _ in range(3):
        x = normed(layers, x, layers.DepthwiseConv2D(3, padding="same"))
        x = normed(layers, x, layers.Conv2D(32, 1))
    x = layers.Flatten()(layers.AveragePooling2D((25, 5))(x))
    return keras.Model(first, layers.Softmax()(layers.Dense(12)(x)))


def detector(keras):
    """Two scales joined, enlarged, convolved transposed; logistic scores."""
    layers = keras.layers
    first = layers.Input((32, 32, 3), batch_size=1)
    near = layers.Conv2D(16, 3, 4, "same", activation="relu")(first)
    far = layers.Conv2D(16, 3, 2, "same")(near)
    far = layers.LeakyReLU(negative_slope=0.1)(far)
    up = layers.UpSampling2D(2, interpolation="bilinear")(far)
    x = layers.MaxPooling2D(3, 1, "same")(layers.Concatenate()([near, up]))
    x = layers.Conv2D(6, 1)(layers.Conv2DTranspose(8, 3, 2, "same")(x))
    return keras.Model(first, layers.Activation("sigmoid")(layers.Reshape((-1, 6))(x)))


def converted(tensorflow, build, bits):
    """Return the bytes of a model with random weights and norms, quantized."""
    keras, lite = tensorflow.keras, tensorflow.lite
    keras.utils.set_random_seed(3)
    model, rng = build(keras), np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            spread, moved = rng.uniform(0.5, 1.5, (2, *shape)), rng.normal(size=shape)
            layer.set_weights([spread[0], 0.3 * moved, 0.3 * moved[::-1], spread[1]])
    converter = lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [lite.Optimize.DEFAULT]
    shape = (1, *model.input_shape[1:])
    images = rng.normal(size=(32, *shape)).astype(np.float32)
    converter.representative_dataset = lambda: ([image] for image in images)
    name = "TFLITE_BUILTINS_INT8"
    if bits == 16:
        name = "EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8"
    converter.target_spec.supported_ops = [getattr(lite.OpsSet, name)]
    if bits == 16:  # LiteRT then takes codes
        converter.inference_input_type = tensorflow.int16
        converter.inference_output_type = tensorflow.int16
    return converter.convert()


@pytest.mark.parametrize(
    ("build", "bits"),
    [(mobilenet, 8), (mobilenet, 16), (keywords, 8), (keywords, 16), (detector, 8)],
)
def test_every_tensor_of_converted_models(build, bits):
    tensorflow = pytest.importorskip("tensorflow", reason="needs tensorflow-cpu")
    pytest.importorskip("ai_edge_litert", reason="pip install refqnn[tflite]")
    model = converted(tensorflow, build, bits)
    graph = parse_model(model)
    for kernels in RESOLVERS:
        network = import_tflite(model, kernels=kernels)
        image = network.steps[0]
        real = np.random.default_rng(2).normal(size=(20, *image.shape))
        codes = x = quantize32(real, image.grid)
        if graph.tensors[graph.inputs[0]].dtype == "float32":
            x = dequantize32(codes, image.grid).astype(np.float32)
        theirs, ours = tflite_trace(model, x, kernels), network.trace(codes)
        compared = 0
        for operator in graph.operators:
            for t in (graph.tensors[number] for number in operator.outputs):
                if t.dtype in RANGES:
                    message = f"{operator.op} {t.name} {kernels}"
                    np.testing.assert_array_equal(ours[t.name], theirs[t.name], message)
                    compared += theirs[t.name].size
        assert compared > 300_000
