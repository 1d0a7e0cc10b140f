#!/usr/bin/env python3
"""Write the embedded `digits` data set, src/data/assets/digits.bin.

The source is the copy of the test part of "Optical Recognition of Handwritten Digits"
(E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, doi:10.24432/C50P49, CC BY 4.0)
that scikit-learn packages as sklearn/datasets/data/digits.csv.gz: 1,797 lines of 64 pixel values
0..16, row by row, and the label.

The file has one 65-byte record an image, in the order of the source: the label, then the pixels
as bytes (the layout of CIFAR-10's binary files with one 8 x 8 channel).

    pip install scikit-learn==1.9.1
    python scripts/make_digits.py [OUT]
"""

import pathlib
import sys

import numpy as np
from sklearn.datasets import load_digits


def main() -> None:
    default = pathlib.Path(__file__).resolve().parent.parent / "src/data/assets/digits.bin"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    digits = load_digits()
    pixels = digits.data
    assert pixels.shape == (1797, 64) and digits.target.shape == (1797,)
    assert (pixels == np.round(pixels)).all() and pixels.min() == 0 and pixels.max() == 16
    assert digits.target.min() == 0 and digits.target.max() == 9
    records = np.concatenate([digits.target[:, None], pixels], axis=1).astype(np.uint8)
    out.write_bytes(records.tobytes())
    print(f"{out}: {len(records)} images, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
