"""Figures: names are drawn as they are, small corpora have a report, and each finding is what the numbers say."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
from made_up_records import FINGERPRINT, TEXT, run, write_csv, write_records

from soe_bench.errors import UserError
from soe_bench.report.__main__ import main
from soe_bench.report.figures import style as style_module
from soe_bench.report.figures.alpha import alpha_charts
from soe_bench.report.figures.curves import curves_chart
from soe_bench.report.figures.domains import REST, SOURCES, domains_charts
from soe_bench.report.figures.experts import _short, experts_chart
from soe_bench.report.figures.gain import gain_chart
from soe_bench.report.figures.map import map_chart
from soe_bench.report.figures.pieces import Lines, looks, points, said, seeds_note
from soe_bench.report.figures.portfolio import portfolio_chart
from soe_bench.report.figures.specialists import specialists_chart
from soe_bench.report.figures.style import BARE, LONGEST_NAME, STYLES, colours, markers, render, shortened, style
from soe_bench.report.format import in_words
from soe_bench.report.load import load_results
from soe_bench.report.stats import Interval
from soe_bench.report.view import make_views

NAMES = ["NA", "null", "007", "1e5", "cost$_5^$", "$a$ and $b_{", "_private", "x" * 240, "日本語", "a|b,c"]


def corpus(folder, names: list[str], k: int = 2, method: str = "soup", seeds: int = 2):
    """A results folder of generic pretraining and a soup with k experts, and everything that collect writes beside."""
    records, curves, alpha = [], [], []
    for seed in range(seeds):
        for name, n, gain in (("generic", 0, 0.0), (method, k, 0.1)):
            records += run(name, n, seed, {each: 3.0 - gain for each in names}, "estimate" if n else "none")
            records += run(name, n, seed, {"generic": 3.5}, "h_0" if n else "none")
            facts = dict(run_id=f"{name}-{n}-{seed}", method=name, n_experts=n, seed=seed)
            for tokens in (1000, 2000):
                validation = 3.0 if names and tokens == 2000 else ""
                curves.append(facts | dict(tokens=tokens, train_loss=3.0, validation_loss=validation))
            texts = [*names, "generic"]
            alpha += [facts | dict(specialist=x, expert=i, alpha=1 / k) for x in texts for i in range(k) if n]
    write_records(folder, records)
    write_csv(folder / "curves.csv", curves)
    write_csv(folder / "alpha.csv", alpha)
    first = dict(data_fingerprint=FINGERPRINT, data="wheels")
    domain = dict(tokens=10, passages=2, fraction=1 / k, top_terms="a b")
    sources = [f"{(names or ['source'])[i % max(len(names), 1)]} 71%" for i in range(k)]
    write_csv(folder / "domains.csv", [first | dict(domain=i, top_sources=sources[i]) | domain for i in range(k)])
    sizes = TEXT | dict(passages=5, tokens=50, nearest_domains="0:1.00", effective_domains=1.0, kl_from_h_0=0.5)
    far = dict(fraction_beyond_q95=0.05, fraction_beyond_q99=0.01)
    texts = [(x, split) for x in [*names, "generic"] for split in ("estimate", "validation", "test")]
    rows = [first | dict(specialist=x, split=split) | sizes | far for x, split in texts]
    write_csv(folder / "specialists.csv", rows)
    return folder


@pytest.mark.parametrize("was, becomes", [(",a,test,", ",c,test,"), (",10,0.01,", ",11,0.01,")])
def test_a_record_of_another_text_than_its_split_is_refused(was, becomes, tmp_path):
    path = corpus(tmp_path, ["a", "b"]) / "evaluations.csv"
    path.write_text(path.read_text().replace(was, becomes, 1))
    with pytest.raises(UserError, match=r"evaluations.csv:\d+: specialists.csv has no test split of '[abc]' with 1"):
        load_results(tmp_path)


def test_names_are_the_same_in_every_file_and_drawn_as_they_are(tmp_path, capsys):
    folder = corpus(tmp_path, NAMES)
    assert main([str(folder)]) == 0
    said = capsys.readouterr().out
    assert "failed" not in said and said.count("warning") <= 1  # of characters that no font here has
    [view], results = make_views(load_results(folder)), load_results(folder)
    assert view.specialists == sorted(NAMES)
    assert set(results.alpha.specialist) == set(results.specialists.specialist) == {*NAMES, "generic"}
    chart = specialists_chart(view)
    assert set(chart.frame.specialist) == set(NAMES)
    with style():
        figure = chart.draw()
        texts = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert {"NA", "null", "007", "1e5", "cost$_5^$", "$a$ and $b_{", "日本語"} <= set(texts)
        assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())
    assert max(map(len, texts)) <= LONGEST_NAME


def test_fonts_that_matplotlibs_list_is_too_old_for_are_found(monkeypatch):
    manager = style_module.font_manager.fontManager
    serif = next(font.fname for font in manager.ttflist if font.name == "DejaVu Serif")
    monkeypatch.setattr(manager, "ttflist", [font for font in manager.ttflist if font.name == "DejaVu Sans"])
    monkeypatch.setattr(style_module.font_manager, "findSystemFonts", lambda: [serif, __file__])  # one is no font
    monkeypatch.setattr(style_module, "FALLBACK_FONTS", ("Nothing", "DejaVu Serif"))
    assert style_module.fallback_fonts.__wrapped__() == ["DejaVu Serif"]


def test_a_long_name_keeps_both_ends_on_one_line():
    assert shortened("a" * 200 + "\nend") == "a" * 32 + "…" + "a" * 7 + " end"
    assert not shortened("_x").startswith("_")  # matplotlib would leave it out of a legend


@pytest.mark.parametrize(
    ("names", "k", "method", "seeds"),
    [
        ([], 1, "soup", 1),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [([], 2, "soup", 2), (["a"], 2, "soup", 2), (["a", "b"], 1, "soup", 1), (["a"], 2, "mine", 1)]
        ),
    ],
)
def test_a_small_corpus_has_a_report(tmp_path, capsys, names, k, method, seeds):
    folder = corpus(tmp_path, names, k, method, seeds)
    assert main([str(folder)]) == 0
    assert "failed" not in capsys.readouterr().out
    assert main([str(folder), "--check"]) == 0
    head = (folder / "tables" / "main.csv").read_text().splitlines()[0].split(",")
    assert ("mean" in head) == bool(names) and "generic text" in head
    assert (folder / "figures" / "curves.png").exists() and (folder / "figures" / "domains.png").exists()


@pytest.mark.slow
def test_figures_do_not_depend_on_the_backend_that_is_set(tmp_path):
    folder = corpus(tmp_path, ["a"])
    command = [sys.executable, "-m", "soe_bench.report", str(folder)]
    done = subprocess.run(command, env={**os.environ, "MPLBACKEND": "nosuch"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (folder / "figures" / "specialists.png").exists()


def test_a_difference_in_words():
    assert [in_words(x) for x in (-0.342, 0.0123, 0.0001)] == ["0.34 lower", "0.012 higher", "the same"]
    assert in_words(-0.342, "generic") == "0.34 lower than generic" and in_words(0, "generic") == "the same as generic"


def test_a_title_says_where_a_difference_is_not_separated_or_of_one_seed():
    """Of -0.5 and -1.5 the interval over seeds has the half width 12.7 * 0.5; of -1 and -1.01 it has 0.06."""
    near = pd.Series([-1.0, -1.01])
    assert said(pd.Series([-0.5, -1.5]), "generic") == "1.00 lower than generic, not separated with 2 seeds"
    assert said(near) == said(near, intervals=[Interval(-2, -1, 14)]) == "1.00 lower"
    assert said(near, intervals=[Interval(-2, 0.1, 14)]) == "1.00 lower, not separated with 2 seeds"
    assert said(near[:1]) == "1.00 lower with one seed"


def test_the_ring_of_generic_pretraining_is_in_the_legend(tmp_path):
    with style():
        [legend] = specialists_chart(make_views(load_results(corpus(tmp_path, ["a", "b"])))[0]).draw().legends
    assert [text.get_text() for text in legend.get_texts()] == ["generic", "soup n=2"]
    assert legend.get_title().get_text() == "2 seeds"


def test_the_title_of_the_domains_counts_specialists():
    assert len(set(SOURCES)) == len(SOURCES) and not {REST, "#999999"} & set(SOURCES)
    first = dict(data="wheels", data_fingerprint=FINGERPRINT)
    domains = pd.DataFrame(
        [first | dict(domain=i, fraction=0.5, top_sources=f"s{i} 71%", top_terms="x") for i in range(2)]
    )
    facts = {"a": ("0:0.60; 1:0.40", 0.01), "b": ("0:0.50; 1:0.50", 0.06), "c": ("1:0.90", 0.05)}
    rows = [
        first | dict(specialist=name, split="estimate", nearest_domains=nearest, fraction_beyond_q99=far)
        for name, (nearest, far) in facts.items()
    ]
    [chart] = domains_charts(domains, pd.DataFrame(rows))
    assert chart.finding.startswith("2 of 3 specialists have more than half of the weight on a single domain; 1 of 3")
    [near] = domains_charts(domains, pd.DataFrame([row | dict(fraction_beyond_q99=0.0) for row in rows]))
    with style():
        drawn = [[axes.get_title(loc="left") for axes in each.draw().axes if axes.axison] for each in (chart, near)]
    assert "Outside the corpus?" in drawn[0] and "Outside the corpus?" not in drawn[1]  # nothing is far: no empty panel


def test_the_curves_say_whose_mean_they_are(tmp_path):
    results = load_results(corpus(tmp_path, ["a", "b"]))
    chart = curves_chart(make_views(results)[0], results.curves)
    assert chart.finding.endswith("(nats/token, mean over all specialists)") and "outside" not in chart.caption
    results.specialists.loc[results.specialists.specialist == "b", "fraction_beyond_q99"] = 0.5
    chart = curves_chart(make_views(results)[0], results.curves)
    assert "mean over all specialists, those outside the corpus too (b)" in chart.caption


def test_the_curves_mark_where_copying_begins(tmp_path):
    results = load_results(corpus(tmp_path, ["a", "b"]))
    [view], curves = make_views(results), results.curves
    plain = curves_chart(view, curves)
    assert "copying_gain" not in plain.frame and "copying" not in plain.caption
    soup = (curves.method == "soup") & (curves.tokens == 2000)
    for gains, words in (
        ((0.1, 0.3), "The mean over these seeds never passes 0.25"),
        ((0.3, 0.3), "A dot marks where the mean over these"),
    ):
        for seed, gain in zip("01", gains, strict=True):
            curves.loc[soup & (curves.seed == seed), "copying_gain"] = gain
        chart = curves_chart(view, curves)
        assert f"It was measured for soup n=2 (2 seeds). {words}" in chart.caption
        with style():
            panels = {axes.get_title(loc="left").split(":")[0].split(",")[0]: axes for axes in chart.draw().axes}
        dots = {
            name: [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
            for name, axes in panels.items()
        }
        own = {"Validation text": [[[16.0, 3.0]]], "Training text": [], "Copying": [[[16.0, 0.3]]]}
        assert dots == (own if min(gains) > 0.25 else dict.fromkeys(own, []))
    curves.loc[soup & (curves.seed == "1"), "copying_gain"] = float("nan")
    with style():
        copying = curves_chart(view, curves).draw().axes[-1]
    assert [line.get_linewidth() for line in copying.lines if len(line.get_xdata())][
        0
    ] == 1.9  # one seed is its own mean


def test_the_title_of_the_curves_compares_on_the_seeds_that_both_have(tmp_path):
    results = load_results(corpus(tmp_path, ["a", "b"]))
    [view], curves = make_views(results), results.curves
    title = curves_chart(view, curves).finding
    curves.loc[(curves.method == "soup") & (curves.seed == "1") & curves.validation_loss.notna(), "validation_loss"] = (
        9.0
    )
    assert curves_chart(view, curves).finding != title
    curves = curves[(curves.method == "soup") | (curves.seed == "0")]
    assert curves_chart(view, curves).finding == title.replace(", not separated with 2 seeds", " with one seed")
    assert (
        curves_chart(view, curves[(curves.method == "soup") | (curves.seed == "9")]).finding == "The loss in training"
    )


@pytest.mark.parametrize(
    ("coefficients", "words"),
    [
        ({"a": [1.0], "b": [2.0]}, "In seed 0 a text uses 1.0 of the 1 experts on average; 1 is the strongest"),
        (
            {"a": [0.5, 0.5], "b": [0.0, -3.0]},
            "In seed 0 a text uses 1.5 of the 2 experts on average; 2 are the strongest",
        ),
        ({"a": [0.0, 0.0], "b": [1.0, 0.0]}, "In seed 0 a text uses 1.0 of the 2 experts on average; "),
    ],
)
def test_the_title_of_alpha_counts_the_experts_in_use_and_those_that_are_ever_the_strongest(
    tmp_path, coefficients, words
):
    results = load_results(corpus(tmp_path, ["a"]))
    [view] = make_views(results)
    alpha = pd.DataFrame(
        dict(results.alpha.iloc[0], specialist=name, expert=expert, alpha=value, n_experts=len(values))
        for name, values in coefficients.items()
        for expert, value in enumerate(values)
    )
    [chart] = alpha_charts(view, alpha)
    assert chart.finding.startswith(words) and chart.finding.endswith("of the 2 kinds of text")


def test_a_specialist_does_not_hide_its_domain_on_the_map():
    domain = dict(domain=0, x=0.0, y=0.0, fraction=1.0, sources="s 71%")
    with style():
        [axes] = map_chart([domain], [dict(name="a", x=0.0, y=0.0, h=[1.0])]).draw().axes
    [mark] = [line for line in axes.lines if line.get_label() == "a"]
    assert mark.get_markerfacecolor() == "none" and mark.get_markeredgecolor() == "black"


def test_no_number_of_the_map_lies_on_another_and_that_of_a_specialist_comes_first():
    domains = [dict(domain=i, x=x, y=0.0, fraction=0.5 - 0.1 * i, sources="s 71%") for i, x in enumerate((0, 0.001, 1))]
    with style():
        [axes] = map_chart(domains, [dict(name="a", x=0.5, y=1.0, h=[0.0, 0.9, 0.1])]).draw().axes
    assert [text.get_text() for text in axes.texts] == ["a", "1", "2"]


def gains(folder, gain: dict[str, float], outside: str = ""):
    """The chart of specialists with these gains, each nat of distance apart in their order; those in `outside` lie
    outside the corpus."""
    rows = [row for seed in range(2) for row in run("generic", 0, seed, dict.fromkeys(gain, 3.0), "none")]
    own = {name: 3.0 - value for name, value in gain.items()}
    corpus(folder, list(gain), k=4)
    write_records(folder, rows + [row for seed in range(2) for row in run("soup", 4, seed, own, "estimate")])
    results = load_results(folder)
    names = results.specialists.specialist
    results.specialists["kl_from_h_0"] = names.map({name: 1.0 + i for i, name in enumerate(gain)})
    results.specialists.loc[names.isin(list(outside)), "fraction_beyond_q99"] = 0.5
    return gain_chart(make_views(results)[0])


def test_the_gain_has_the_rank_correlation_within_the_corpus(tmp_path):
    """Ranks 1 2 3 4 5 6 against 2 1 3 4 5 6: 1 - 6 * (1 + 1) / (6 * 35) = 0.94. Pearson's of these would be 0.72."""
    chart = gains(tmp_path, dict(a=0.2, b=0.1, c=0.3, d=0.4, e=0.5, f=4.0, g=-9.0), outside="g")
    assert "grows with" in chart.finding and "(rank correlation 0.94; 6 specialists, 2 seeds)" in chart.finding
    assert chart.frame.outside.tolist() == [False] * 6 + [True]


def test_the_gain_says_how_much_rests_on_one_specialist(tmp_path):
    """Ranks 1 to 6 in order and a last one with the least gain. Without it they agree; without a they do worst:
    2 3 4 5 6 1 against 1 to 6 has squares of 1 five times and of 5 once, 1 - 6 * 30 / (6 * 35) = 0.14. With all
    seven it is 1 - 6 * 42 / (7 * 48) = 0.25, which is nothing of note."""
    chart = gains(tmp_path, dict(a=0.1, b=0.2, c=0.3, d=0.4, e=0.5, f=0.6, g=0.0))
    assert "the correlation is 0.14, without g (divergence 7.00) it is 1.00." in chart.caption
    assert "shows no relation to the distance of h from h_0 (rank correlation 0.25; 7 specialists" in chart.finding


def test_a_family_of_methods_has_the_same_colour_whatever_else_is_there(tmp_path):
    few = run("merge_ties", 0, 0, {"a": 3.0}, "estimate") + run("mine", 0, 0, {"a": 3.0}, "none")
    more = few + run("crisp", 0, 0, {"a": 3.0}, "estimate") + run("best_expert", 0, 0, {"a": 3.0}, "estimate")
    one, other = (
        colours(make_views(load_results(write_records(tmp_path / name, rows)))[0])
        for name, rows in (("few", few), ("more", more))
    )
    assert one["merge_ties"] == other["merge_ties"] and one["mine"] == other["mine"]
    assert len(set(other.values())) == len(other)


def test_of_few_specialists_the_gain_claims_no_direction(tmp_path):
    chart = gains(tmp_path, dict(a=0.1, b=0.2, c=0.3, d=0.4, e=0.5))
    assert chart.finding.endswith("5 specialists within the corpus, too few for a rank correlation")


def test_a_specialist_outside_the_corpus_does_not_set_the_axes_of_the_gain(tmp_path):
    chart = gains(tmp_path, dict(a=0.2, b=0.1, c=0.3, d=0.4, e=-9.0), outside="e")
    with style():
        [axes] = chart.draw().axes
    assert axes.get_ylim() == pytest.approx((-0.06, 0.46)) and axes.get_xlim() == pytest.approx((0.58, 4.42))
    places = {(x, y) for line in axes.lines if line.get_marker() == "o" for x, y in line.get_xydata()}
    assert (axes.get_xlim()[1], axes.get_ylim()[0]) in places  # e stands in the corner


def test_no_name_of_the_gain_lies_on_a_mark_or_on_another_name(tmp_path):
    near = {f"specialist_{i}": 0.5 + 0.01 * (i % 3) for i in range(14)}
    chart = gains(tmp_path, near | {"far": 2.0, "low": -1.0})
    with style():
        figure = chart.draw()
        figure.draw_without_rendering()
    [axes] = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    places = axes.transData.transform(chart.frame[["kl", "gain"]])
    assert {"far", "low"} <= {text.get_text() for text in axes.texts}
    assert not any(box.contains(*place) for box in boxes for place in places)
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def portfolio(folder, rows=()):
    """A soup and generic pretraining on 10 and 40 tokens, one training each; CRISP, on an eighth, for 2 specialists.
    All have one seed; `rows` are further records."""
    rows = [*rows]
    for tokens in (10, 40):
        for method, n, loss, facts in (
            ("generic", 0, 4.0, dict(flops=100.0 * tokens)),
            ("soup", 64, 3.7, dict(flops=100.0 * tokens)),
            ("crisp", 0, 3.5, dict(flops=12.5 * tokens, trained_for=2)),
        ):
            losses = dict.fromkeys("ab", loss - tokens / 100)
            rows += run(method, n, 0, losses, "none", training_tokens=tokens, run_id=f"{method}{tokens}", **facts)
    return make_views(load_results(write_records(folder, rows)))[0]


def test_a_portfolio_pays_per_specialist_what_is_trained_for_each(tmp_path):
    """CRISP's training for 2 takes 12.5 FLOPs per token, so 6.25 for one: for 16 as many as the soup's 100."""
    chart = portfolio_chart(portfolio(tmp_path))
    flops = {key: rows.x.tolist() for key, rows in chart.frame.groupby(["panel", "line"])}
    assert flops["N = 1", "soup n=64"] == flops["N = 64", "soup n=64"] == [1000, 4000]
    assert flops["N = 1", "crisp"] == [62.5, 250] and flops["N = 64", "crisp"] == [4000, 16_000]
    with style():
        assert set(render(chart)[0]) == {"png", "svg", BARE}


def test_where_nothing_is_paid_per_specialist_a_portfolio_has_one_panel_and_no_tick_twice(tmp_path):
    """2.0 to 2.3 TFLOPs."""
    rows = []
    for tokens in (10, 11):
        for method, n, each in (("generic", 0, 2.0e11), ("soup", 4, 2.1e11)):
            facts = dict(training_tokens=tokens, run_id=f"{method}{tokens}", flops=each * tokens)
            rows += run(method, n, 0, {"a": 3.0}, "none", **facts)
    chart = portfolio_chart(make_views(load_results(write_records(tmp_path, rows)))[0])
    assert set(chart.frame.panel) == {"N = 16"} and "other N give the same" in chart.caption
    with style():
        figure = chart.draw()
        figure.draw_without_rendering()
        [axes] = figure.axes
        ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(ticks)) == len(ticks) > 1


def test_a_caption_explains_what_is_drawn_of_several_seeds_alone():
    def note(panel, x, *seeds):
        return seeds_note(pd.DataFrame(points({panel: pd.Series(3.0, list(seeds))}, "a", x)))

    assert note("loss", 4, "0") == note("difference", 4, "0") == note("loss", None, "0") == ""
    assert note("loss", 4, "0", "1") == " A dash is one seed."
    assert note("difference", 4, "0", "1") == " A bar is a 95 % t-interval over seeds."
    assert note("difference", None, "0", "1") == " A band goes from the lowest seed to the highest."


def test_the_titles_say_where_a_model_without_experts_is_better_than_the_soup(tmp_path):
    rows = [
        row
        for name, n, loss in (("generic", 0, 3.0), ("dense_on_pi", 0, 2.8), ("soup", 16, 2.9))
        for row in run(name, n, 0, {"a": loss, "b": loss}, "none")
    ]
    [view] = make_views(load_results(write_records(tmp_path, rows)))
    one = "with one seed"
    found = experts_chart([view])
    assert f"16 experts is 0.10 lower {one}, and that of dense_on_pi 0.20 lower {one} (nats" in found.finding
    assert "across: generic; dense_on_pi." in found.caption and "side by side" not in found.caption
    title = specialists_chart(view).finding
    assert title.endswith(f"is 0.10 lower {one}; that of dense_on_pi is the lowest here, 0.20 lower {one} (nats/token)")


def test_the_title_of_the_portfolio_compares_the_usual_soup_at_equal_flops_on_the_seeds_that_both_have(tmp_path):
    """The soup on 10 tokens has a second seed, on which nothing else was run. It has 3.6 nats, CRISP 3.4, generic 3.9;
    fine-tuned it would have 1.0, but on a alone. What takes few FLOPs has 1.0 too."""
    second = run("soup", 64, 1, dict.fromkeys("ab", 9.0), "none", training_tokens=10, run_id="10", flops=1000.0)
    tuned = run(
        "generic", 0, 0, {"a": 1.0}, "none", training_tokens=10, run_id="generic10", flops=1000.0, budget_tokens=100_000
    )
    cheap = run("crisp_x", 0, 0, dict.fromkeys("ab", 1.0), "none", training_tokens=10, flops=1.0, trained_for=2)
    chart = portfolio_chart(portfolio(tmp_path, second + tuned + cheap))
    soups = chart.frame[(chart.frame.line == "soup n=64") & (chart.frame.training_tokens == 10)]
    assert sorted(soups.value.unique()) == pytest.approx([3.6, 9.0])
    words = "trained on 1e-05M tokens, is 0.20 higher than that of the best other method here at equal FLOPs (crisp)"
    assert words in chart.finding and chart.finding.endswith("with one seed")
    assert "as some of these specialists have no record of it: generic, fine-tuned on 100k." in chart.caption


def drawn(panels: dict[str, dict[str, int]], places: tuple[int, ...] = (4, 8)):
    """A figure of differences in panels, each of which has these lines with so many seeds; a level too."""
    rows = []
    for panel, lines in panels.items():
        for line, n in {"level": 2, **lines}.items():
            for x in places if line != "level" else (None,):
                rows += points({panel: pd.Series({str(seed): 3.0 + seed for seed in range(n)})}, line, x, label=line)
    frame = pd.DataFrame(rows)
    palette = dict.fromkeys(frame.label, "black")
    with style():
        return Lines(looks(frame, palette), "x", names="{:g}".format, differences=set(panels)).draw(frame)


def marks(axes) -> list[list[float]]:
    """Where the marks of each line stand."""
    return [list(line.get_xdata()) for line in axes.lines if line.get_marker() not in ("None", "", "_")]


def test_the_marks_of_one_line_stand_on_their_ticks():
    [axes] = drawn({"difference": {"a": 2}}).axes
    assert marks(axes) == [[4, 8]] and list(axes.get_xticks()) == [4, 8]


@pytest.mark.parametrize("n", [2, 3, 12])
def test_the_marks_of_several_lines_stand_side_by_side_around_their_tick(n):
    [axes] = drawn({"difference": {f"line {i}": 2 for i in range(n)}}).axes
    first = [own[0] for own in marks(axes)]
    assert first == sorted(set(first)) and len(first) == n
    assert first[0] * first[-1] == pytest.approx(4 * 4)  # on a log axis the tick is half-way
    assert first[-1] / first[0] < 2**0.31  # and the next tick is a factor 2 away


def test_a_line_has_one_entry_in_the_legend_of_several_panels():
    [legend] = drawn({"one": {"a": 1}, "two": {"a": 3}}).legends
    assert [text.get_text() for text in legend.get_texts()] == ["level (2 seeds)", "a (1-3 seeds)"]


def test_lines_of_one_colour_differ_in_style_and_a_level_is_never_full():
    rows = [points({"p": pd.Series({"0": 3.0})}, name, x, label=name) for name, x in (("a", 1), ("b", 1), ("c", None))]
    found = looks(pd.DataFrame([row for each in rows for row in each]), dict.fromkeys("abc", "black"))
    assert all(found["a"][part] != found["b"][part] for part in ("linestyle", "marker"))
    assert found["c"] == {"color": "black", "marker": "", "linestyle": STYLES[1]}


def test_a_method_has_the_same_marker_in_every_figure_and_no_two_share_one():
    few = markers(["a", "soup n=64"])
    many = markers(["generic", "b", "a", "generic, fine-tuned on 100k", "crisp", "soup n=4", "soup n=64"])
    assert few["soup n=64"] == many["soup n=64"] and len(set(many.values())) == len(many)
    assert len(markers(map(str, range(20)))) == 20  # more than there are markers


def test_no_portfolio_of_one_training_budget(tmp_path):
    assert portfolio_chart(make_views(load_results(corpus(tmp_path, ["a"])))[0]) is None


def test_the_title_of_several_settings_names_what_tells_them_apart():
    def view(scale, model, data, fingerprint):
        setting = dict(scale=scale, model=model, data=data)
        return SimpleNamespace(title=f"scale {scale}, model {model}, corpus {data} {fingerprint}", setting=setting)

    k2, k4, large = (
        view("small", "d32", "k2", "1a"),
        view("small", "d32", "k4", "2b"),
        view("large", "d128", "k4", "2b"),
    )
    assert list(_short([k2, k4]).values()) == ["k2", "k4"]
    assert list(_short([k4, large]).values()) == ["small", "large"]
    assert list(_short([k2]).values()) == [""]
    assert list(_short([k2, k4, view("gpu", "d32", "k2", "3c")]).values()) == ["small on k2", "k4", "gpu"]
    alike = view("small", "d32", "k2", "3c")
    assert list(_short([k2, alike]).values()) == [k2.title, alike.title]
