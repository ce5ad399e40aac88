"""Made-up records of the sweeps over budgets, drawn documents, sizes and laws of pi, and made-up distances, for
realistic folders."""

from collections.abc import Sequence

import numpy as np

GROUPS = 6  # of domains, an expert each
PI = "support 1..{} by {}, Dirichlet(1), 15% h_0"
ESTIMATORS = {"nearest_centroid": 1.0, "smoothed": 0.7, "soft": 0.8, "tuned_coefficients": 1.2}  # times the excess loss


def fine_tuned(rng, rows: list[dict]) -> list[dict]:
    """The records at budget 0 fine-tuned on 10k to 1M tokens, the last for nine specialists alone."""
    return [
        row
        | {
            "budget_tokens": budget,
            "fine_tuning_rate": 1e-3,
            "loss": row["loss"] * (1 - lead) + rng.normal(0, 0.01),
            "specialist_tokens": 12 * budget,
            "specialist_flops": 12 * budget * 6.0 * row["parameters"],
            "specialist_seconds": 1.1e-3 * budget,
        }
        for budget, lead, most in ((10_000, 0.03, None), (100_000, 0.1, None), (1_000_000, 0.2, 9))
        for row in rows[:most]
    ]


def documents(rng, rows: list[dict], estimators: Sequence[str]) -> list[dict]:
    """The records of one run at h from 1 to 256 drawn documents, ten draws each; few specialists have many."""
    return [
        row
        | {
            "estimator": estimator,
            "n_documents": count,
            "document_draw": draw,
            "loss": row["loss"] + ESTIMATORS[estimator] * rng.gamma(2, 0.15 / count**0.7),
        }
        for estimator in estimators
        for count, most in ((1, 16), (4, 16), (16, 16), (32, 14), (64, 12), (256, 5))
        for row in rows[:most]
        for draw in range(10)
    ]


def sizes(run, names: list[str], seeds: range) -> list[dict]:
    """Generic and a soup on d32 and d128, at the main runs' tokens a parameter and at their tokens."""
    rng, rows = np.random.default_rng(2), []
    for model, parameters, loss, gain in (("d32", 95_000, 3.62, 0.26), ("d128", 950_000, 3.2, 0.1)):
        for tokens in (16_000_000, round(16_000_000 * parameters / 290_000)):
            for seed in seeds:
                level = loss - 0.08 * np.log2(tokens / 16e6) + rng.normal(0, 0.01)
                for method, n, effect in (("generic", 0, 0.0), ("soup", 16, gain + (tokens == 16_000_000) / 40)):
                    losses = {name: level - effect + rng.normal(0, 0.02) for name in names}
                    rows += run(
                        method,
                        n,
                        seed,
                        losses,
                        "estimate" if n else "none",
                        model=model,
                        parameters=parameters,
                        training_tokens=tokens,
                        pi=PI.format(4, "h_0") if n else "h_0",
                        run_id=f"{method}-{model}-{tokens}-{seed}",
                    )
    return rows


def support(run, names: list[str], seeds: range) -> list[dict]:
    """Soups of 16 experts trained under other laws than `support 1..4 by h_0`."""
    rng, rows = np.random.default_rng(3), []
    for law, cost in (("h_0", 0.0), ("uniform", 0.12)):
        for largest in (1, 2, 4, 8, 64) if law == "uniform" else (1, 2, 8, 64):
            for seed in seeds:
                loss = 3.2 + cost + 0.02 * np.log2(largest / 4) ** 2 + rng.normal(0, 0.01)
                facts = dict(pi=PI.format(largest, law), recipe=f"{law}{largest}", run_id=f"pi-{law}-{largest}-{seed}")
                losses = {name: loss + rng.normal(0, 0.02) for name in names}
                rows += run("soup", 16, seed, losses, "estimate", **facts)
                rows += run("soup", 16, seed, {"generic": 3.45 + cost / 2 + rng.normal(0, 0.01)}, "h_0", **facts)
    return rows


def portfolio(run, level: dict[str, float], seeds: range) -> list[dict]:
    """CRISP, and generic pretraining fine-tuned on 100k tokens, on the FLOPs of the 64 experts for 16 specialists."""
    rng, rows = np.random.default_rng(5), []
    for seed in seeds:
        losses = {name: loss + 0.3 + rng.normal(0, 0.02) for name, loss in level.items()}
        crisp = dict(flops=2.5e13, training_tokens=40_000_000, trained_for=16, run_id=f"crisp-short-{seed}")
        rows += run("crisp", 0, seed, losses, "estimate", recipe="r2", **crisp)
        generic = dict(flops=1e12, training_tokens=1_600_000, run_id=f"generic-short-{seed}", recipe="r2")
        rows += run("generic", 0, seed, {name: loss + 1 for name, loss in losses.items()}, "none", **generic)
        tuned = dict(budget_tokens=100_000, specialist_flops=1.5e12, specialist_tokens=1_200_000)
        rows += run("generic", 0, seed, losses, "none", **generic, **tuned)
    return rows


def distances(names: list[str], seeds: range) -> list[dict]:
    """Pairs of experts of one parent (close, cheap to merge), of separate experts (far, costly; aligned, less so), and
    of specialists."""
    rng, rows = np.random.default_rng(4), []
    groups = [f"group_{i}" for i in range(GROUPS)]
    for family, method, members, far, cost in (
        ("common_parent", "merge_linear", groups, 0.35, 0.03),
        ("separate", "experts_separate", groups, 1.4, 2.5),
        ("aligned", "merge_aligned", groups, 1.2, 2.2),
        ("soup", "soup", names[:GROUPS], 0.12, -0.01),
    ):
        for seed in seeds:
            for i, one in enumerate(members):
                for other in members[i + 1 :]:
                    distance, gap = far * rng.uniform(0.9, 1.1), cost * rng.uniform(0.5, 1.5)
                    rows.append(
                        dict(
                            run_id=f"{method}-{seed}",
                            method=method,
                            seed=seed,
                            family=family,
                            one=one,
                            other=other,
                            distance=f"{distance:.6g}",
                            cosine=f"{1 - distance**2 / 2:.6g}",
                            cosine_of_updates="" if family in ("separate", "aligned") else f"{rng.uniform(0, 0.2):.6g}",
                            barrier=f"{max(0, 1.2 * gap):.6g}",
                            merge_gap=f"{gap:.6g}",
                        )
                    )
    return rows
