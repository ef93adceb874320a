"""Solvers of the allocation problem side by side, one core: ours, HiGHS (mixed-integer program), OR-Tools if there.

Instances have the channels of the real networks and synthetic costs (lognormal scales per layer and channel, fourfold
less harm a bit); the second limit is bits read late in the network. Writes benchmarks/results/solver.json: rows of
`instance`, `solver`, `seconds`, `gap`, `objective`, `bound` (gap null: no solution within the time limit).

    python benchmarks/bench_solver.py [--limit SECONDS] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix, csr_matrix, vstack
from torch import nn

from bitloom import zoo
from bitloom.allocate.core import solve_exact
from bitloom.allocate.knapsack import Problem, front, solve
from bitloom.allocate.multi import MultiProblem, solve_multi

WIDTHS = np.arange(2, 9)


@dataclass(frozen=True)
class Row:
    """gap = (objective - bound) / objective; None where the solver found nothing in its time."""

    instance: str
    solver: str
    seconds: float
    gap: float | None
    objective: float | None = None
    bound: float | None = None


def layer_sizes(network: str) -> list[tuple[int, int]]:
    """(channels, weights per channel) of every convolution, as the network of the zoo has them."""
    with torch.device("meta"):
        module = zoo.build(network)
    return [(m.weight.shape[0], m.weight[0].numel()) for m in module.modules() if isinstance(m, nn.Conv2d)]


def instance(sizes: list[tuple[int, int]], seed: int = 0) -> MultiProblem:
    """Costs (n, 7); usage: weight bits, and weight bits weighted by how late the layer comes, with a dear sixth bit."""
    rng = np.random.default_rng(seed)
    cost, bits, late = [], [], []
    for i, (channels, weights) in enumerate(sizes):
        scale = np.exp(rng.normal(0, 1.0)) * np.exp(rng.normal(0, 0.8, channels))
        cost.append(scale[:, None] * 4.0**-WIDTHS * np.exp(rng.normal(0, 0.05, (channels, len(WIDTHS)))))
        bits.append(np.repeat((weights * WIDTHS)[None, :], channels, axis=0))
        price = 1 + 15 * i // len(sizes)
        late.append(np.repeat((weights * (WIDTHS + 4 * (WIDTHS > 5)) * price)[None, :], channels, axis=0))
    usage = np.stack([np.concatenate(bits), np.concatenate(late)]).astype(np.int64)
    return MultiProblem(np.concatenate(cost), usage, ("weight bits", "late bits"))


def highs(problem: MultiProblem, limits: tuple[int, ...], name: str, seconds: float) -> Row:
    """The mixed-integer program by HiGHS, one binary per item and choice."""
    n, k = problem.cost.shape
    start = time.perf_counter()
    one = coo_matrix((np.ones(n * k), (np.repeat(np.arange(n), k), np.arange(n * k)))).tocsr()
    rows = vstack([csr_matrix(u.reshape(1, -1).astype(np.float64)) for u in problem.usage[: len(limits)]])
    answer = milp(
        problem.cost.ravel(),
        integrality=np.ones(n * k),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one, 1, 1), LinearConstraint(rows, -np.inf, np.array(limits, np.float64))],
        options={"time_limit": seconds, "mip_rel_gap": 1e-6},
    )
    spent = time.perf_counter() - start
    if answer.x is None:
        return Row(name, "highs", spent, None)
    bound = float(answer.mip_dual_bound)
    return Row(name, "highs", spent, max(0.0, (answer.fun - bound) / answer.fun), float(answer.fun), bound)


def ortools(problem: MultiProblem, limits: tuple[int, ...], name: str, seconds: float) -> Row | None:
    """CP-SAT on one worker with costs scaled to integers (the scaling is part of its gap); None where not installed."""
    try:
        from ortools.sat.python import cp_model
    except ImportError:
        return None
    start = time.perf_counter()
    unit = float(problem.cost.max()) / 2**36
    whole = np.rint(problem.cost / unit).astype(np.int64)
    model = cp_model.CpModel()
    n, k = problem.cost.shape
    picks = [[model.new_bool_var("") for _ in range(k)] for _ in range(n)]
    flat = [p for row in picks for p in row]
    for row in picks:
        model.add_exactly_one(row)
    for use, limit in zip(problem.usage, limits, strict=False):
        model.add(cp_model.LinearExpr.weighted_sum(flat, use.ravel().tolist()) <= limit)
    model.minimize(cp_model.LinearExpr.weighted_sum(flat, whole.ravel().tolist()))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    spent = time.perf_counter() - start
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Row(name, "ortools-cp-sat", spent, None)
    choice = [next(j for j in range(k) if solver.boolean_value(row[j])) for row in picks]
    objective = float(problem.cost[np.arange(n), choice].sum())
    bound = (solver.best_objective_bound - n / 2) * unit
    return Row(name, "ortools-cp-sat", spent, max(0.0, (objective - bound) / objective), objective, bound)


def ours(problem: MultiProblem, limits: tuple[int, ...], name: str) -> list[Row]:
    """Best of three runs, as the operating system disturbs short ones."""
    rows = []
    if len(limits) == 1:
        single = Problem(problem.cost, problem.usage[0])
        for label, run in (("bitloom", solve), ("bitloom exact core", solve_exact)):
            best = min((run(single, limits[0]) for _ in range(3)), key=lambda s: s.seconds)
            rows.append(Row(name, label, best.seconds, best.gap, best.objective, best.bound))
    else:
        several = min((solve_multi(problem, limits) for _ in range(3)), key=lambda s: s.seconds)
        rows.append(Row(name, "bitloom", several.seconds, several.gap, several.objective, several.bound))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=30.0, help="seconds for each foreign solver and instance")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "solver.json")
    args = parser.parse_args()
    rows: list[Row] = []
    for network in ("resnet20", "resnet18", "resnet50"):
        problem = instance(layer_sizes(network))
        weights = int(problem.usage[0, :, 0].sum()) // 2
        bits = 4 * weights
        free = solve(Problem(problem.cost, problem.usage[0]), bits)
        late = int(problem.usage[1, np.arange(len(free.choice)), free.choice].sum())
        for limits in ((bits,), (bits, late * 97 // 100)):
            name = f"{network}, {len(problem.cost)} x {len(WIDTHS)}, {len(limits)} limit{'s' * (len(limits) > 1)}"
            found = [*ours(problem, limits, name), highs(problem, limits, name, args.limit)]
            other = ortools(problem, limits, name, args.limit)
            rows += found if other is None else [*found, other]
            for row in rows[-len(found) - (other is not None) :]:
                print(row)
        if network == "resnet50":
            single = Problem(problem.cost, problem.usage[0])
            start = time.perf_counter()
            answers = front(single, np.linspace(2.1, 7.9, 50) * weights)
            spent, worst = time.perf_counter() - start, max(s.gap for s in answers)
            rows.append(Row(f"{network}, front of 50 budgets", "bitloom", spent, worst))
            print(rows[-1])
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps([asdict(r) for r in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
