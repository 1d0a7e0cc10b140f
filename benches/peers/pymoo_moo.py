#!/usr/bin/env python3
"""What `cargo bench --bench moo` measures, in pymoo 0.6.2 with its compiled modules.

Run by hand, in an environment of its own:

    python3 -m venv peers && peers/bin/pip install pymoo==0.6.2
    peers/bin/python benches/peers/pymoo_moo.py [--json FILE] [--repeats N] [--only TEXT]

Prints a table, and writes the figures as JSON if asked.
"""

import argparse
import json
import platform
import statistics
import time

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3, ReferenceDirectionSurvival
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.repair import Repair
from pymoo.functions import is_compiled
from pymoo.indicators.hv import Hypervolume
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.mutation.pm import PM
from pymoo.operators.sampling.lhs import LHS
from pymoo.optimize import minimize
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from pymoo.util.ref_dirs import get_reference_directions
from pymoo.version import __version__


def uniform(m, n):
    return np.random.default_rng(m * 100_003 + n).random((n, m))


def front(m, n):
    points = uniform(m, n)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


class Synthetic(Problem):
    """The 22-gene problem of benches/moo.rs, on whole populations at once."""

    def __init__(self):
        lower = np.array([0, 0] + [1, 1, 0, 0] * 5)
        upper = np.array([2, 1] + [9, 9, 9, 9] * 5)
        super().__init__(n_var=22, n_obj=3, xl=lower, xu=upper, vtype=int)

    def _evaluate(self, x, out, *args, **kwargs):
        scale, width = 1 + 0.25 * x[:, 0], 1 + 0.2 * x[:, 1]
        genes = x[:, 2:]
        active = genes > 0
        kernel, expansion = (genes - 1) % 3, (genes - 1) // 3
        stage = np.repeat(np.arange(5), 4)
        gain = (active * (1 + 0.3 * kernel + 0.4 * expansion) / (1 + 0.1 * abs(stage - 2))).sum(axis=1)
        size = active * (1 + 0.1 * kernel) * (3 + 1.5 * expansion) * (1 + stage) ** 2
        error = 100 / (1 + 0.1 * gain * np.sqrt(scale) * np.sqrt(width))
        macs = (size / (1 + stage)).sum(axis=1) * width**2 * scale**2
        out["F"] = np.column_stack([error, size.sum(axis=1) * width**2, macs])


class RoundAndFill(Repair):
    def _do(self, problem, x, **kwargs):
        x = np.around(x).astype(int)
        for last in range(5, 22, 4):
            x[x[:, last - 1] == 0, last] = 0
        return x


def search(algorithm):
    operators = dict(
        pop_size=100,
        sampling=LHS(),
        crossover=TwoPointCrossover(prob=0.9),
        mutation=PM(prob=1.0, eta=1.0),
        repair=RoundAndFill(),
        eliminate_duplicates=True,
    )
    directions = get_reference_directions("das-dennis", 3, n_partitions=12)

    def run():
        chosen = NSGA3(directions, **operators) if algorithm == "nsga3" else NSGA2(**operators)
        return minimize(Synthetic(), chosen, ("n_gen", 20), seed=1)

    return run


def survival():
    population = Population.new("X", np.zeros((2998, 1)), "F", uniform(3, 2998))
    directions = get_reference_directions("das-dennis", 3, n_partitions=22)
    problem = Problem(n_var=1, n_obj=3)

    def run():
        operator = ReferenceDirectionSurvival(directions)
        return operator.do(problem, population, n_survive=298, random_state=np.random.default_rng(1))

    return run


def measure(run, repeats):
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": statistics.median(times), "least_ms": min(times), "repeats": repeats}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", metavar="FILE")
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--only", default="", help="cases whose name holds this")
    arguments = arguments.parse_args()

    sort = NonDominatedSorting().do
    cases = {}
    for m in (2, 3, 4):
        cases[f"moo/sorting/10000x{m}"] = (lambda p=uniform(m, 10_000): sort(p)), arguments.repeats
    cases["moo/sorting/10000x3/one_front"] = (lambda p=front(3, 10_000): sort(p)), 2
    cases["moo/search/nsga3/100x20"] = search("nsga3"), arguments.repeats
    cases["moo/search/nsga2/100x20"] = search("nsga2"), arguments.repeats
    for m in (2, 3, 4):
        volume = Hypervolume(ref_point=np.full(m, 1.1))
        cases[f"moo/hypervolume/300x{m}"] = (lambda v=volume, p=front(m, 300): v(p)), arguments.repeats
    cases["moo/nsga3_survival/298_of_2998"] = survival(), arguments.repeats
    for m, n in ((3, 100), (3, 298), (4, 100)):
        cases[f"moo/riesz/{n}x{m}"] = (lambda m=m, n=n: get_reference_directions("energy", m, n, seed=42)), 1

    results = {}
    print(f"pymoo {__version__}, compiled: {is_compiled()}, {platform.processor() or platform.machine()}")
    print(f"{'case':34} {'median ms':>12} {'least ms':>12}")
    for name, (run, repeats) in cases.items():
        if arguments.only not in name:
            continue
        results[name] = measure(run, repeats)
        print(f"{name:34} {results[name]['median_ms']:12.3f} {results[name]['least_ms']:12.3f}", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"version": 1, "pymoo": __version__, "compiled": is_compiled(), "cases": results}, file, indent=1)


if __name__ == "__main__":
    main()
