"""Made-up records and results folders for the tests of the report."""

import csv
import math
from pathlib import Path

import made_up_sweeps
import numpy as np

from soe_bench.records import EVALUATION, RUN, SCHEMA, table_text

SPECIALISTS = [
    "aws_security",
    "bokeh_typescript",
    "cmudict",
    "django_web",
    "docutils",
    "folk_tunes",
    "german_interface",
    "google_ads",
    "homeassistant_python",
    "japanese_interface",
    "mimesis_json",
    "music21_kern",
    "nltk_code",
    "russian_interface",
    "sympy_physics",
    "yaml_ansible",
]
SOURCES = [
    "botocore",
    "google-api-python-client",
    "homeassistant",
    "sympy",
    "music21",
    "django",
    "ansible-core",
    "nltk",
    "pygments",
    "bokeh",
    "mimesis",
]
FINGERPRINT = "3fa94c1b77d2aa01bb"
TEXT = dict(documents=10, bytes=2_885_390)  # of every split
CRISP = dict(  # what a run per specialist cost, in the tests of the costs
    flops=80.0,
    training_tokens=4000,
    seconds=40.0,
    trained_for=2,
    specialist_flops=1.0,
    specialist_tokens=7,
    specialist_seconds=0.5,
)


def record(**changes) -> dict:
    """A valid record; its text is such that bits per byte are half of the loss (to seven digits)."""
    return {
        "schema": SCHEMA,
        "run_id": "generic-0",
        "specialist": "a",
        "split": "test",
        "budget_tokens": 0,
        "h_source": "none",
        "estimator": None,
        "n_documents": None,
        "document_draw": None,
        "method": "generic",
        "n_experts": 0,
        "sweep": "experts",
        "recipe": "r1",
        "scale": "small",
        "model": "d64",
        "parameters": 290000,
        "pi": "dirichlet",
        "draws_per_step": 8,
        "parent": None,
        "seed_data": 0,
        "seed_init": 0,
        "seed_mix": 0,
        "seed_kmeans": 0,
        "data": "wheels",
        "data_fingerprint": FINGERPRINT,
        "loss": 3.0,
        "nats_sum": 3e6,
        "tokens": 1_000_000,
        **TEXT,
        "loss_se_documents": 0.01,
        "bits_per_byte": 3e6 / math.log(2) / 2_885_390,
        "training_tokens": 16000000,
        "flops": 1e13,
        "seconds": 60.0,
        "parent_tokens": None,
        "parent_flops": None,
        "parent_seconds": None,
        "peak_memory_bytes": 10**9,
        "stored_parameters": 290000,
        "deployed_parameters": 290000,
        "specialist_tokens": 0,
        "specialist_flops": 0.0,
        "specialist_seconds": 0.0,
        "loss_seconds": 0.5,
        "trained_for": None,
        "threads": 1,
        "precision": "float32",
        "device": "cpu",
        "max_epochs": 1.5,
        "commit": "0123456789abcdef",
        "dirty": False,
        "fine_tuning_rate": 1e-3 if changes.get("budget_tokens") else None,
        **changes,
    }


def run(method: str, n: int, seed: int, losses: dict[str, float], h_source: str, **changes) -> list[dict]:
    """The records of one run: {specialist: loss}."""
    fields = dict(
        run_id=f"{method}-{n}-{seed}",
        method=method,
        n_experts=n,
        seed_data=seed,
        seed_init=seed,
        seed_mix=seed,
        h_source=h_source,
    )
    return [record(**{**fields, "specialist": name, "loss": loss, **changes}) for name, loss in losses.items()]


def write_records(folder: Path, records: list[dict]) -> Path:
    """Write runs.csv and evaluations.csv into the folder, in the order of the records."""
    folder.mkdir(parents=True, exist_ok=True)
    runs, rows = {row["run_id"]: row for row in records}, [row | sums(row) for row in records]
    (folder / "runs.csv").write_text(table_text(RUN, runs.values()), encoding="utf-8")
    (folder / "evaluations.csv").write_text(table_text(EVALUATION, rows), encoding="utf-8")
    return folder


def sums(row: dict) -> dict[str, float]:
    """What follows from a record's loss."""
    nats = row["loss"] * row["tokens"]
    bits = nats / math.log(2) / row["bytes"]
    return {"nats_sum": nats, "bits_per_byte": bits}


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write a CSV with the rows' keys as header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


# Method and number of experts -> effect on the loss, times the specialist's own gain.
METHODS = {("generic", 0): 0.0, ("dense_on_pi", 0): 0.05, ("soup", 4): -0.08, ("soup", 16): -0.2, ("soup", 64): -0.25}
METHODS |= {("dense_conditioned", 0): -0.1, ("crisp", 0): -0.4, ("ensemble", 0): -0.15, ("hypernetwork", 64): -0.12}
METHODS |= {("low_rank_soup", 64): -0.14, ("best_expert", 0): -0.05, ("nearest_expert", 0): -0.03}
METHODS |= {
    (f"merge_{name}{how}", 0): 0.1 - 0.02 * i - 0.03 * j
    for i, name in enumerate(("linear", "slerp", "task_arithmetic", "ties", "dare_ties"))
    for j, how in enumerate(("", "_uniform", "_tuned"))
} | {("merge_gradient", 0): -0.04}
TRAINED = ("generic", "dense_on_pi", "soup", "dense_conditioned", "crisp", "hypernetwork", "low_rank_soup")
CONTROLS = {"uniform": 0.3, "shuffled": 0.5, "h_0": 0.25, "zero": 0.9}
# Method and number of experts -> the estimators of h from drawn documents.
ESTIMATORS = {
    ("soup", 64): ("nearest_centroid", "smoothed", "soft", "tuned_coefficients"),
    ("low_rank_soup", 64): ("nearest_centroid",),
}
# Method and number of experts -> what its training and a specialist take.
COSTS = {
    ("soup", n): dict(
        flops=1e13 * (1 + n / 40),
        stored_parameters=290000 * (n + 1),
        specialist_flops=2.0 * n * 290000,
        specialist_seconds=1e-4 * n,
    )
    for n in (4, 16, 64)
} | {("crisp", 0): dict(flops=1.6e14, training_tokens=256_000_000, trained_for=16)}


def write_realistic(folder: Path, seeds: range = range(3), n_specialists: int = 16, k: int = 64) -> Path:
    """Every method of the suite, seeds, sixteen specialists and the generic text, curves, alpha, corpus tables and a
    ledger; with the sweeps over budgets, drawn documents, sizes and laws of pi, and distances."""
    rng = np.random.default_rng(1)
    names = SPECIALISTS[:n_specialists]
    level = dict(zip(names, rng.normal(3.4, 0.4, len(names)), strict=True))
    gain = dict(zip(names, rng.gamma(4, 0.25, len(names)), strict=True))
    records, curves, alpha = [], [], []
    for (method, n), effect in METHODS.items():
        source = "none" if method in ("generic", "dense_on_pi") else "estimate"
        for seed in seeds:
            shift = rng.normal(0, 0.01)
            losses = {name: level[name] + effect * gain[name] + shift + rng.normal(0, 0.02) for name in names}
            pi = "h_0" if method == "generic" else made_up_sweeps.PI.format(4, "h_0")
            facts = {"pi": pi, **COSTS.get((method, n), {})}
            own = run(method, n, seed, losses, source, max_epochs=5.2 if n == 64 else 1.5, **facts)
            records += own + run(method, n, seed, losses, source, split="validation", **facts)
            records += run(method, n, seed, {"generic": 3.45 + 0.02 * (n > 0) + shift}, "h_0" if n else "none", **facts)
            for control, cost in CONTROLS.items() if method == "soup" else ():
                shifted = {name: loss + cost + rng.normal(0, 0.02) for name, loss in losses.items()}
                records += run(method, n, seed, shifted, control, **facts)
            records += made_up_sweeps.fine_tuned(rng, own) if method != "ensemble" else []
            records += made_up_sweeps.documents(rng, own, ESTIMATORS.get((method, n), ()))
            curves += _curve(rng, method, n, seed, np.mean(list(losses.values()))) if method in TRAINED else []
            alpha += _alphas(rng, method, n, seed, names) if n else []
    records += made_up_sweeps.sizes(run, names, seeds) + made_up_sweeps.support(run, names, seeds)
    records += made_up_sweeps.portfolio(run, level, seeds)
    write_records(folder, records)
    write_csv(folder / "distances.csv", made_up_sweeps.distances(names, seeds))
    write_csv(folder / "curves.csv", curves)
    write_csv(folder / "alpha.csv", alpha)
    _write_corpus(folder, rng, names, k)
    rows = [
        ("router width", "128", "not stated", "ours", "method.router.hidden", ""),
        ("optimizer", "AdamW", "Adam", "ours", "optim.name", "decoupled decay | same otherwise"),
        ("algorithm", "1-3", "1-3", "paper", "method", ""),
    ]
    columns = ("setting", "ours", "paper", "status", "where", "note")
    write_csv(folder / "deviations.csv", [dict(zip(columns, row, strict=True)) for row in rows])
    return folder


def _curve(rng, method, n, seed, final):
    rows = []
    for step in range(0, 4000, 40):
        tokens = (step + 40) * 4096
        value = final + 4.2 * np.exp(-tokens / 5e5) + 1.6 / (1 + tokens / 6e5) - 0.057
        rows.append(
            dict(
                run_id=f"{method}-{n}-{seed}",
                method=method,
                n_experts=n,
                seed=seed,
                step=step,
                tokens=tokens,
                train_loss=f"{value - 0.3 * (n > 0) + rng.normal(0, 0.12):.5f}",
                validation_loss=f"{value + rng.normal(0, 0.004):.5f}" if step % 200 == 0 else "",
                lr=0.003,
                tokens_per_second=9000,
            )
        )
    return rows


def _alphas(rng, method, n, seed, names):
    rows = []
    for i, name in enumerate([*names, "generic"]):
        logits = rng.normal(0, 1, n) + (4 * (np.arange(n) % len(names) == i // 2 * 2) if name != "generic" else 0)
        for expert, value in enumerate(np.exp(logits) / np.exp(logits).sum()):
            rows.append(
                dict(
                    run_id=f"{method}-{n}-{seed}",
                    method=method,
                    n_experts=n,
                    seed=seed,
                    specialist=name,
                    expert=expert,
                    alpha=f"{value:.6g}",
                )
            )
    return rows


def _write_corpus(folder, rng, names, k):
    h_0 = np.sort(rng.dirichlet(np.full(k, 1.5)))
    first = dict(data_fingerprint=FINGERPRINT, data="wheels")
    write_csv(
        folder / "domains.csv",
        [
            {
                **first,
                "domain": i,
                "tokens": int(share * 4e7),
                "passages": int(share * 7e4),
                "fraction": f"{share:.6f}",
                "top_sources": f"{SOURCES[int(rng.integers(len(SOURCES)) * rng.random())]} 71%; nltk 12%",
                "top_terms": "iam policy role access arn",
            }
            for i, share in enumerate(h_0)
        ],
    )
    rows = []
    for name in [*names, "generic"]:
        h = np.sort(rng.dirichlet([3, 1.5, 0.7, 0.3, 0.2]))[::-1]
        nearest = "; ".join(f"{domain}:{share:.2f}" for domain, share in zip(rng.permutation(k)[:5], h, strict=True))
        rows += [
            {
                **first,
                "specialist": name,
                "split": split,
                "documents": TEXT["documents"],
                "passages": 900,
                "tokens": tokens,
                "bytes": TEXT["bytes"],
                "nearest_domains": nearest,
                "effective_domains": f"{np.exp(-(h * np.log(h)).sum()):.2f}",
                "kl_from_h_0": f"{np.log(k) + (h * np.log(h)).sum():.4f}",
                "fraction_beyond_q95": f"{rng.beta(0.6, 4):.4f}",
                "fraction_beyond_q99": "0.0100",
            }
            for split, tokens in (("train", 1200000), ("estimate", 60000), ("validation", 60000), ("test", 90000))
        ]
    write_csv(folder / "specialists.csv", rows)
