#!/usr/bin/env python3
"""Runs exported ONNX files in onnxruntime and compares their outputs with expected logits.

    python3 scripts/check_onnx.py FOLDER

FOLDER/cases.json is a list of {"model", "images", "shape", "outputs": [{"name", "shape", "file"}]}: file
names in FOLDER; images and outputs are little-endian f32. Every model is checked by onnx's own checker
with shape inference, run on all images at once and on the first alone (the batch is free), and every
output must be within 1e-4 times max(1, the largest expected value). Prints one line of JSON: how many
models, the largest error relative to that scale, and the versions. Needs onnxruntime, onnx and numpy.
"""

import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime

TOLERANCE = 1e-4


def read(folder, file, shape):
    return numpy.fromfile(folder / file, dtype="<f4").reshape(shape)


def check(folder, case):
    path = str(folder / case["model"])
    onnx.checker.check_model(path, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected_names = [output["name"] for output in case["outputs"]]
    if names != expected_names:
        sys.exit(f"{path}: outputs {names}, and {expected_names} are expected")
    images = read(folder, case["images"], case["shape"])
    worst = 0.0
    for count in (len(images), 1):
        found = session.run(None, {"images": images[:count]})
        for output, name, values in zip(case["outputs"], names, found):
            whole = read(folder, output["file"], output["shape"])
            expected = whole[:count]
            if values.shape != expected.shape:
                sys.exit(f"{path}: {name} has shape {values.shape}, and {expected.shape} is expected")
            scale = max(1.0, float(numpy.abs(whole).max()))
            error = float(numpy.abs(values.astype("f8") - expected.astype("f8")).max()) / scale
            if not error <= TOLERANCE:
                sys.exit(f"{path}: {name} is off by {error:.2e} of its scale {scale:.3g}")
            worst = max(worst, error)
    return worst


def main():
    folder = pathlib.Path(sys.argv[1])
    cases = json.loads((folder / "cases.json").read_text())
    worst = max(check(folder, case) for case in cases)
    versions = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__, "numpy": numpy.__version__}
    print(json.dumps({"models": len(cases), "worst": worst, **versions}))


if __name__ == "__main__":
    main()
