"""Loss against the number of domains that the corpus is divided into: soups and generic pretraining."""

import pandas as pd

from soe_bench.report.figures.pieces import TITLES, Lines, looks, points, seeds_note, trained_on
from soe_bench.report.figures.style import Chart, colours
from soe_bench.report.stats import mean
from soe_bench.report.view import View

METHODS = ("generic", "soup")


def granularity_chart(views: list[View], domains: pd.DataFrame) -> Chart | None:
    """The views of the first one's scale, model and test texts on several divisions of the corpus, on the seeds that a
    label has on all of them; None unless there are two divisions, with a soup on each."""
    if any(view.corpus.empty for view in views):
        return None
    sizes = domains.groupby("data_fingerprint").size().to_dict()
    alike = [view for view in views if _same(view) == _same(views[0]) and view.setting["data_fingerprint"] in sizes]
    found = dict(sorted({sizes[view.setting["data_fingerprint"]]: view for view in alike}.items()))
    if len(found) < 2:
        return None
    specialists = sorted(set.intersection(*(set(view.averaged) for view in found.values())))
    frame = pd.DataFrame(
        [
            row
            for k, view in found.items()
            for label in view.shown
            if view.methods.method[label] in METHODS
            for row in points(view.by_seed(label, specialists), label, k, label=label)
        ]
    )
    if frame.empty:
        return None
    frame = frame[frame.groupby(["panel", "line", "seed"]).x.transform("nunique") == len(found)]
    if not (frame.line != "generic").any():
        return None
    every = len(set.union(*(set(view.specialists) for view in found.values())))
    scale, model = (views[0].setting[key] for key in ("scale", "model"))
    corpora = ", ".join(view.setting["data"] for view in found.values())
    caption = (
        "Test text, no fine-tuning, mean over the specialists that lie within the corpus at every number of domains: "
        f"{len(specialists)} of {every}. The passages are the same throughout, only their clusters differ. Small "
        "clusters are dissolved, so that a corpus may have fewer domains than were asked for."
        f"{seeds_note(frame)}\nscale {scale}, model {model}, corpora {corpora}"
        f"{trained_on([*found.values()][0], set(frame.label))}"
    )
    lines = Lines(looks(frame, colours(*found.values())), "number of domains (log scale)", TITLES, "{:g}".format)
    frame = frame.reset_index(drop=True)
    return Chart("granularity", _finding(frame), caption, frame, lambda: lines.draw(frame))


def _same(view: View) -> tuple:
    """What two divisions of one corpus have in common: scale, model, and the size of each specialist's test text."""
    test = view.corpus[view.corpus.split == "test"]
    return view.setting["scale"], view.setting["model"], dict(zip(test.specialist, test.bytes, strict=True))


def _finding(frame: pd.DataFrame) -> str:
    """The number of domains with the lowest mean of the largest soup."""
    label = frame.line[frame.line != "generic"].iloc[-1]
    means = frame[(frame.panel == "specialists") & (frame.line == label)].groupby("x").value.agg(mean)
    words = ", ".join(f"{means[k]:.2f} with {k:g}" for k in means.index)
    return f"Loss of {label} on the specialists by the number of domains: {words} (nats/token)"
