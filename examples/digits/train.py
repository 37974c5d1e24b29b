#!/usr/bin/env python3
"""Trains a small neural network on scikit-learn's bundled handwritten digits (1,797 images of 8 x 8 pixels).

Input:  nothing from outside; the images come with scikit-learn.
Output: model.npz and metrics.json in the directory that $AZ_BATCHAI_OUTPUT_MODEL names (or --output), and metrics.jsonl,
        which grows by a line with each epoch; one line for each epoch on standard output.

The network has one hidden layer and is trained by plain mini-batch gradient descent with momentum, written out in
numpy. Every training image is also shown moved by one pixel up, down, left and right. A fifth of the images is held
out and never trained on; "accuracy" in metrics.json is measured on those.
"""

import os

# One core is enough for matrices of this size; more threads only wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import pathlib
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def moved(images, rows, columns):
    """The images moved by whole pixels; what moves in is blank."""
    result = np.zeros_like(images)
    height, width = images.shape[1:]
    source = images[:, max(0, -rows) : height - max(0, rows), max(0, -columns) : width - max(0, columns)]
    result[:, max(0, rows) : height - max(0, -rows), max(0, columns) : width - max(0, -columns)] = source
    return result


def load(seed):
    """Training and held-out images, scaled to 0..1 and flattened, with their digits."""
    digits = load_digits()
    images = digits.images / 16.0
    train, test, train_labels, test_labels = train_test_split(
        images, digits.target, test_size=0.2, stratify=digits.target, random_state=seed
    )
    moves = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    train = np.concatenate([moved(train, rows, columns) for rows, columns in moves])
    train_labels = np.tile(train_labels, len(moves))
    return train.reshape(len(train), -1), train_labels, test.reshape(len(test), -1), test_labels


class Network:
    """64 pixels -> hidden rectified units -> 10 digits."""

    def __init__(self, generator, hidden):
        self.parameters = {
            "w1": generator.normal(0.0, np.sqrt(2.0 / 64), (64, hidden)),
            "b1": np.zeros(hidden),
            "w2": generator.normal(0.0, np.sqrt(1.0 / hidden), (hidden, 10)),
            "b2": np.zeros(10),
        }
        self.velocity = {name: np.zeros_like(value) for name, value in self.parameters.items()}

    def forward(self, images):
        hidden = np.maximum(images @ self.parameters["w1"] + self.parameters["b1"], 0.0)
        scores = hidden @ self.parameters["w2"] + self.parameters["b2"]
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        return hidden, odds / odds.sum(axis=1, keepdims=True)

    def step(self, images, labels, rate, momentum=0.9):
        """One step down the gradient of the cross-entropy. Answers the loss before the step."""
        hidden, chances = self.forward(images)
        rows = np.arange(len(labels))
        loss = -np.log(chances[rows, labels] + 1e-12).mean()
        slope = chances
        slope[rows, labels] -= 1.0
        slope /= len(labels)
        back = (slope @ self.parameters["w2"].T) * (hidden > 0.0)
        gradients = {"w1": images.T @ back, "b1": back.sum(axis=0), "w2": hidden.T @ slope, "b2": slope.sum(axis=0)}
        for name, gradient in gradients.items():
            self.velocity[name] = momentum * self.velocity[name] - rate * gradient
            self.parameters[name] += self.velocity[name]
        return loss

    def accuracy(self, images, labels):
        return float((self.forward(images)[1].argmax(axis=1) == labels).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=os.environ.get("AZ_BATCHAI_OUTPUT_MODEL"), help="directory for the results")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    if not options.output:
        parser.error("say where the results go: --output, or $AZ_BATCHAI_OUTPUT_MODEL")
    output = pathlib.Path(options.output)
    output.mkdir(parents=True, exist_ok=True)

    started = time.monotonic()
    train, train_labels, test, test_labels = load(options.seed)
    print(f"{len(train)} images to train on, {len(test)} held out", flush=True)
    generator = np.random.default_rng(options.seed)
    network = Network(generator, options.hidden)
    course = (output / "metrics.jsonl").open("w")
    for epoch in range(1, options.epochs + 1):
        order = generator.permutation(len(train))
        rate = options.rate * 0.5 * (1.0 + np.cos(np.pi * (epoch - 1) / options.epochs))
        losses = [
            network.step(train[batch], train_labels[batch], rate)
            for batch in np.array_split(order, max(1, len(order) // options.batch))
        ]
        accuracy = network.accuracy(test, test_labels)
        course.write(json.dumps({"epoch": epoch, "loss": float(np.mean(losses)), "accuracy": accuracy, "rate": rate}) + "\n")
        course.flush()
        print(f"epoch {epoch:2d}/{options.epochs}  loss {np.mean(losses):.4f}  accuracy {accuracy:.4f}", flush=True)

    course.close()
    np.savez(output / "model.npz", **network.parameters)
    metrics = {
        "accuracy": network.accuracy(test, test_labels),
        "train_accuracy": network.accuracy(train, train_labels),
        "train_images": len(train),
        "test_images": len(test),
        "epochs": options.epochs,
        "seed": options.seed,
        "seconds": round(time.monotonic() - started, 3),
    }
    # Written whole under another name first: whoever sees metrics.json sees all of it.
    partial = output / "metrics.json.part"
    partial.write_text(json.dumps(metrics, indent=2) + "\n")
    partial.rename(output / "metrics.json")
    print(f"accuracy on held-out images: {metrics['accuracy']:.4f}", flush=True)


if __name__ == "__main__":
    main()
