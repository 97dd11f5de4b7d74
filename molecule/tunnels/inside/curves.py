"""Writes what a training writes for TensorBoard: curves.py FOLDER ... Each folder is a run. Runs in an environment."""

import math
import sys

import tensorflow as tf

EPOCHS = 30

for number, folder in enumerate(sys.argv[1:], start=1):
    with tf.compat.v1.summary.FileWriter(folder) as writer:
        for epoch in range(EPOCHS):
            values = {"loss": math.exp(-epoch / 10 * number), "val_loss": math.exp(-epoch / 20 * number)}
            for name, value in values.items():
                entry = tf.compat.v1.Summary.Value(tag=name, simple_value=value)
                writer.add_summary(tf.compat.v1.Summary(value=[entry]), epoch)
