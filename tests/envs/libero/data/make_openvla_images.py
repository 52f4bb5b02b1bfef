"""Write openvla_images.npz: OpenVLA's image preprocessing by TensorFlow itself (written with tensorflow-cpu 2.21).

Run in an environment with TensorFlow: python make_openvla_images.py
The calls are those of `resize_image` and `crop_and_resize` in OpenVLA's experiments/robot/.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

SIZE = 56

y, x = np.mgrid[0:64, 0:64]
image = np.stack([(x * 5 + y) % 256, 255 - 3 * x, (x * y) % 256], axis=-1).astype(np.uint8)
image[20:44, 16:30] = [200, 30, 60]

jpeg = tf.io.decode_image(tf.image.encode_jpeg(image), expand_animations=False, dtype=tf.uint8)
resized = tf.image.resize(jpeg, (SIZE, SIZE), method="lanczos3", antialias=True)
resized = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)

batch = tf.expand_dims(tf.image.convert_image_dtype(resized, tf.float32), 0)
side = tf.reshape(tf.clip_by_value(tf.sqrt(0.9), 0, 1), shape=(1,))
margin = (1 - side) / 2
box = tf.stack([margin, margin, margin + side, margin + side], axis=1)
crop = tf.clip_by_value(tf.image.crop_and_resize(batch, box, tf.range(1), (SIZE, SIZE))[0], 0, 1)
crop = tf.image.convert_image_dtype(crop, tf.uint8, saturate=True)

np.savez_compressed(
    Path(__file__).with_name("openvla_images.npz"),
    image=image,
    jpeg=jpeg.numpy(),
    resized=resized.numpy(),
    crop=crop.numpy(),
)
