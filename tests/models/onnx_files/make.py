"""Writes the files of this folder: networks of Keras 3 and of plain TensorFlow, as their exporters write them.

    pip install keras tensorflow-cpu tf2onnx onnx onnxruntime
    KERAS_BACKEND=tensorflow python make.py
    KERAS_BACKEND=torch python make.py              # writes keras_torch.onnx alone; needs torch and onnxscript

Beside NAME.onnx, NAME.npz holds inputs ``x`` and the outputs ``y`` that onnxruntime gave. Weights are random; tests compare
functions, not accuracies.
"""

import os
from pathlib import Path

import keras
import numpy as np
import onnxruntime
from keras import layers

HERE = Path(__file__).parent


def stirred(model: keras.Model) -> keras.Model:
    """The statistics of batch norms are those of no data; here they are other than 0 and 1."""
    random = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            layer.set_weights(
                [1 + 0.2 * random.normal(size=gamma.shape), 0.2 * random.normal(size=beta.shape),
                 0.1 * random.normal(size=mean.shape), 0.5 + random.random(variance.shape)]
            )  # fmt: skip
    return model


def convolutional() -> keras.Model:
    """Channels last, ``same`` padding with strides 2 on even sizes, depthwise layers, global average, softmax."""
    x = inputs = keras.Input((16, 12, 3))
    for filters, strides in ((8, 2), (12, 1)):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU(6.0)(x)
    y = layers.DepthwiseConv2D(3, 2, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    y = layers.Activation("relu")(y)
    y = layers.SeparableConv2D(12, 3, padding="same")(y)
    x = layers.add([y, layers.MaxPooling2D(2, padding="same")(x)])
    x = layers.LeakyReLU(negative_slope=0.1)(x)
    x = layers.concatenate(
        [
            layers.AveragePooling2D(2)(layers.ZeroPadding2D(((1, 0), (0, 1)))(x)),
            layers.Conv2D(4, 1, 2, padding="same")(x),
        ]
    )
    x = layers.UpSampling2D(2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(layers.Dense(16, "relu")(x))
    return stirred(keras.Model(inputs, layers.Dense(5, "softmax")(x)))


def tokens() -> keras.Model:
    """A block of attention over eight places, with layer norms and GELU by tanh (tf2onnx writes the other one as Erfc, which
    is no operator of ONNX)."""
    x = inputs = keras.Input((8, 12))
    y = layers.LayerNormalization(epsilon=1e-6)(x)
    x = x + layers.MultiHeadAttention(2, 6)(y, y)
    y = layers.Dense(24)(layers.LayerNormalization(epsilon=1e-6)(x))
    y = keras.ops.gelu(y, approximate=True)
    x = x + layers.Dense(12)(y)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def rectangles() -> keras.Model:
    """Channels last up to a flatten: the dense layer reads places first."""
    x = inputs = keras.Input((6, 10, 2))
    x = layers.Conv2DTranspose(4, 3, 2, padding="same", activation="hard_sigmoid")(x)
    x = layers.Conv2D(6, 3, padding="valid", dilation_rate=2)(x)
    x = layers.PReLU(keras.initializers.Constant(0.1), shared_axes=[1, 2])(
        layers.AveragePooling2D(3, 2, padding="same")(x)
    )
    x = layers.Reshape((-1, 6))(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def answers(name: str) -> None:
    """Stores inputs and what onnxruntime makes of them."""
    session = onnxruntime.InferenceSession(str(HERE / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    x = np.random.default_rng(0).normal(size=(3, *given.shape[1:])).astype(np.float32)
    y = np.concatenate([session.run(None, {given.name: x[k : k + 1]})[0] for k in range(len(x))])
    np.savez_compressed(HERE / f"{name}.npz", x=x, y=y)


def exported(model: keras.Model, name: str) -> None:
    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # the export asks for a network that was called
    model.export(str(HERE / f"{name}.onnx"), format="onnx", verbose=False)
    answers(name)


def plain_tensorflow() -> None:
    """A function of TensorFlow's own operators, without Keras: layer norm and GELU written out."""
    import tensorflow as tf
    import tf2onnx

    random = np.random.default_rng(2)

    def weights(*shape: int) -> np.ndarray:
        return (random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)

    kernel, deep, dense, last = weights(3, 3, 3, 8), weights(3, 3, 8, 1), weights(8, 16), weights(16, 4)
    scale, shift = 1 + weights(1, 8)[0], weights(1, 8)[0]

    def network(x: tf.Tensor) -> tf.Tensor:
        x = tf.nn.relu6(tf.nn.conv2d(x, kernel, 2, "SAME") + 0.1)
        x = tf.nn.depthwise_conv2d(x, deep, [1, 1, 1, 1], "SAME")
        mean = tf.reduce_mean(x, -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(x - mean), -1, keepdims=True)
        x = (x - mean) / tf.sqrt(variance + 1e-5) * scale + shift
        x = tf.linalg.matmul(tf.reshape(x, [-1, 48, 8]), dense)
        x = 0.5 * x * (1.0 + tf.math.erf(x / np.sqrt(2.0).astype(np.float32)))
        return tf.nn.softmax(tf.linalg.matmul(tf.reduce_mean(x, 1), last))

    signature = [tf.TensorSpec((None, 16, 12, 3), tf.float32, name="x")]
    tf2onnx.convert.from_function(tf.function(network), signature, opset=15, output_path=str(HERE / "tf_plain.onnx"))


def main() -> None:
    keras.utils.set_random_seed(0)
    if os.environ.get("KERAS_BACKEND") == "torch":
        exported(convolutional(), "keras_torch")
        return
    for network in (convolutional, tokens, rectangles):
        exported(network(), f"keras_{network.__name__}")
    plain_tensorflow()
    answers("tf_plain")


if __name__ == "__main__":
    main()
