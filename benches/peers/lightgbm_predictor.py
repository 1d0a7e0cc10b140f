"""The work of benches/predictor.rs with LightGBM, for comparison.

    python -m venv venv && venv/bin/pip install lightgbm==4.7.0 scikit-learn scipy
    venv/bin/python benches/peers/lightgbm_predictor.py

Times ten folds of 100 trees on the first 300 rows of the CIFAR-10 table and 2,000 predictions (one
thread, best of several rounds), with scikit-learn's interface and with LightGBM's own, then prints
Kendall's tau on the rows left out of 300 random ones.
"""

import json
import pathlib
import sys
import time

import lightgbm
import numpy as np
from scipy.stats import kendalltau
from sklearn.model_selection import KFold

TABLE = pathlib.Path(__file__).parents[2] / "checkpoints/ofa_mbv3_w025_cifar10.accuracies.json"
PARAMS = {"objective": "huber", "num_threads": 1, "verbose": -1}


def genotype(arch):
    genes = [[32, 40, 48].index(arch["r"]), 0]
    for layer in range(20):
        active = layer % 4 < arch["d"][layer // 4]
        kernel, expansion = [3, 5, 7].index(arch["ks"][layer]), [3, 4, 6].index(arch["e"][layer])
        genes.append(1 + 3 * expansion + kernel if active else 0)
    return genes


def folds(x, y, seed):
    for train, _ in KFold(10, shuffle=True, random_state=seed).split(x):
        mean, deviation = y[train].mean(), y[train].std()
        yield x[train], (y[train] - mean) / deviation, mean, deviation


def fit_scikit(x, y, seed):
    return [
        (lightgbm.LGBMRegressor(objective="huber", n_jobs=1, verbose=-1).fit(xs, ys), mean, deviation)
        for xs, ys, mean, deviation in folds(x, y, seed)
    ]


def fit_native(x, y, seed):
    return [
        (lightgbm.train(PARAMS, lightgbm.Dataset(xs, ys), num_boost_round=100), mean, deviation)
        for xs, ys, mean, deviation in folds(x, y, seed)
    ]


def predict(models, x):
    return np.mean([model.predict(x, num_threads=1) * deviation + mean for model, mean, deviation in models], axis=0)


def best(work, rounds=7):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def main():
    rows = json.loads(TABLE.read_text())["rows"]
    x = np.array([genotype(row["arch"]) for row in rows], dtype=np.float64)
    y = np.array([100 - row["top1"] for row in rows])
    unseen = x[[i % len(x) for i in range(300, 2300)]]
    print(f"LightGBM {lightgbm.__version__}, one thread")
    seconds = {}
    for name, fit in (("scikit-learn interface", fit_scikit), ("native interface", fit_native)):
        fit_seconds, models = best(lambda: fit(x[:300], y[:300], 1))
        predict_seconds, _ = best(lambda: predict(models, unseen))
        seconds[name] = {"fit": fit_seconds, "predict": predict_seconds}
        print(f"{name}: fit {fit_seconds:.4f} s, 2000 predictions {predict_seconds:.4f} s")
    # A file name as the only argument gets the seconds as JSON, and the slow draws are left out.
    if len(sys.argv) > 1:
        pathlib.Path(sys.argv[1]).write_text(json.dumps({"lightgbm": lightgbm.__version__, "seconds": seconds}))
        return
    taus = []
    for repeat in range(20):
        order = np.random.default_rng(repeat).permutation(len(x))
        train, test = order[:300], order[300:]
        taus.append(kendalltau(predict(fit_native(x[train], y[train], repeat), x[test]), y[test]).statistic)
    print(f"tau over {len(taus)} draws: {np.mean(taus):.4f} +- {np.std(taus):.4f}")


if __name__ == "__main__":
    main()
