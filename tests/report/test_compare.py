"""Two methods side by side: hand-computed differences, what counts as better, and what it says of unequal budgets."""

from dataclasses import replace

import pandas as pd
import pytest
from made_up_records import run, write_records

from soe_bench.report.compare import main, report
from soe_bench.report.load import load_results
from soe_bench.report.view import make_views


def soup_and_generic(seeds, **changes):
    """The soup is better by 0.1, 0.11, 0.09 on a, worse by three times that on b, and the same on c."""
    rows = []
    for seed, gain in zip(range(seeds), (0.1, 0.11, 0.09), strict=False):
        rows += run("generic", 0, seed, {"a": 3.0, "b": 4.0, "c": 5.0, "generic": 3.5}, "none")
        rows += run("soup", 4, seed, {"a": 3.0 - gain, "b": 4.0 + 3 * gain, "c": 5.0}, "estimate", **changes)
        rows += run("soup", 4, seed, {"generic": 3.6}, "h_0", **changes)
    return rows


def said(tmp_path, capsys, rows, *names):
    status = main([*names, f"results={write_records(tmp_path, rows)}"])
    out, err = capsys.readouterr()
    return status, out + err


def test_three_seeds_by_hand(tmp_path, capsys):
    status, text = said(tmp_path, capsys, soup_and_generic(3), "soup", "generic")
    assert status == 0
    # sd 0.01 over three seeds: half width 4.302653 * 0.01 / sqrt(3) = 0.0248
    assert "a  -0.1000  -0.1248 to -0.0752  better" in text
    assert "b  +0.3000  +0.2255 to +0.3745  worse" in text
    assert "c  +0.0000  +0.0000 to +0.0000  not separated" in text
    assert "soup n=4 is better on 1, worse on 1, not separated on 1 (95 % t-interval over seeds)" in text
    assert "mean +0.0667 over 3 of 3 specialists and 3 seeds" in text and "generic text: +0.1000" in text
    assert "training tokens: equal, 16,000,000" in text


def test_a_specialist_outside_the_corpus_is_shown_and_does_not_count(tmp_path):
    [view] = make_views(load_results(write_records(tmp_path, soup_and_generic(3))))
    corpus = pd.DataFrame({"specialist": ["a", "b", "c"], "fraction_beyond_q99": [0.01, 0.06, 0.01]})
    corpus = corpus.assign(split="estimate", data_fingerprint=view.setting["data_fingerprint"])
    text = report(replace(view, corpus=corpus), ("soup n=4", 0), ("generic", 0))
    assert "b  +0.3000  +0.2255 to +0.3745  worse, outside the corpus" in text
    assert (
        "soup n=4 is better on 1, worse on 0, not separated on 1" in text
        and "mean -0.0500 over 2 of 3 specialists" in text
    )


def test_one_seed_has_errors_over_documents(tmp_path, capsys):
    # each loss_se_documents is 0.01: half width 2 * 0.01 * sqrt(2) = 0.0283
    _, text = said(tmp_path, capsys, soup_and_generic(1), "soup n=4", "gen")
    how = "(one seed: two standard errors over documents, so for these trained models; another seed may differ)"
    assert "a  -0.1000  -0.1283 to -0.0717  better" in text and how in text
    _, text = said(tmp_path, capsys, soup_and_generic(1, loss_se_documents=None, documents=1), "soup n=4", "generic")
    assert "is better on 0, worse on 0, not separated on 3" in text  # one document says nothing of the spread


def test_unequal_budgets_are_named(tmp_path, capsys):
    _, text = said(tmp_path, capsys, soup_and_generic(1, training_tokens=32_000_000), "soup", "generic")
    assert "training tokens: NOT equal, 32,000,000 and 16,000,000 (2.00 x)" in text
    assert "FLOPs of training and of 3 specialists: equal to 5 %, 1e+13 and 1e+13" in text
    more = soup_and_generic(1, flops=1.5e13)
    assert (
        "FLOPs of training and of 3 specialists: NOT equal (1.50 x), 1.5e+13 and 1e+13"
        in said(tmp_path / "more", capsys, more, "soup", "generic")[1]
    )


def test_a_fine_tuned_model_stands_beside_one_that_is_not(tmp_path, capsys):
    """Generic pretraining gains 0.5 by fine-tuning, and takes a tenth more FLOPs for each of 3 specialists."""
    rows = soup_and_generic(3)
    for seed in range(3):
        losses = {"a": 2.5, "b": 3.5, "c": 4.5}
        rows += run("generic", 0, seed, losses, "none", budget_tokens=10_000, specialist_flops=1e12)
    status, text = said(tmp_path, capsys, rows, "soup", "generic, fine-tuned on 10k")
    assert status == 0 and "soup n=4 minus generic, fine-tuned on 10k, nats/token" in text
    assert "a  +0.4000  +0.3752 to +0.4248  worse" in text and "generic text: no record of both" in text
    assert "FLOPs of training and of 3 specialists: NOT equal (0.77 x), 1e+13 and 1.3e+13" in text


def test_flops_that_are_not_known_are_not_said_to_be_unequal(tmp_path, capsys):
    rows = [row for row in soup_and_generic(1, specialist_flops=None) if row["specialist"] in ("a", "generic")]
    _, text = said(tmp_path, capsys, rows, "soup", "generic")
    what = (
        "FLOPs of training and of 1 specialist: not known, as the records of soup n=4 do not have those of a specialist"
    )
    assert what in text and "nan" not in text


def test_the_setting_that_has_both_methods(tmp_path, capsys):
    """Most records are of the small scale, which has no merge; the demo has both."""
    demo = [
        row
        for method, loss in (("generic", 3.0), ("merge_linear", 3.2))
        for row in run(method, 0, 0, {"a": loss}, "none", scale="demo", run_id=f"demo-{method}")
    ]
    status, text = said(tmp_path, capsys, soup_and_generic(3) + demo, "merge_linear", "generic")
    assert status == 0 and "a  +0.2000" in text and "demo" in text


def test_a_name_of_several_labels_is_not_looked_for_in_another_setting(tmp_path, capsys):
    """Where the demo has one soup and the setting with most records two."""
    rows = [row for n in (4, 16) for row in run("soup", n, 0, {"a": 3.0, "b": 3.0}, "estimate")]
    rows += run("generic", 0, 0, {"a": 3.0, "b": 3.0}, "none")
    rows += [
        row
        for method, n in (("generic", 0), ("soup", 16))
        for row in run(method, n, 0, {"a": 3.0}, "none", scale="demo", run_id=f"demo-{method}")
    ]
    status, text = said(tmp_path, capsys, rows, "soup", "generic")
    assert (
        status == 2
        and "'soup' fits several methods: give more of the name of one of these:\n  soup n=4\n  soup n=16\n" in text
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("soap", "generic"), "there is no record of 'soap': the methods with records are:\n  generic\n  soup n=4\n"),
        (("", "generic"), "fits several methods: give more of the name of one of these:\n  generic\n  soup n=4\n"),
    ],
)
def test_a_name_that_is_no_label_is_answered_with_a_label_per_line(tmp_path, capsys, names, message):
    status, text = said(tmp_path, capsys, soup_and_generic(1), *names)
    assert status == 2 and text.startswith("error: ") and message in text
