"""report.html: one file that a browser shows without a network and without a script, whatever the names are."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from browser import DESKTOP, PHONE, needs_browser, seen
from made_up_claims import generic, soup
from made_up_records import write_csv, write_records

from soe_bench.report.__main__ import main
from soe_bench.report.format import Table
from soe_bench.report.page import PAGE, Picture, Section, html

HOSTILE = "<script>alert(1)</script>"
DEVIATION = dict(setting="router width", ours="128", paper="64", status="paper", where="method.router", note="")
URLS = {"src", "href", "srcset", "data", "action", "poster", "background", "style"}
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A page's elements (tag, attributes, text), and the tags that are not closed where they must be."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.wrong = [], [], []
        self.feed(text)
        self.wrong += [tag for tag, _ in self.open]

    def handle_starttag(self, tag, attrs):
        element = (tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in VOID:
            self.open.append((tag, element[2]))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()[0] != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        for _, text in self.open:
            text.append(data)

    def texts(self, *tags: str) -> list[str]:
        return ["".join(text).strip() for tag, _, text in self.elements if tag in tags]


def page_of(folder) -> Page:
    return Page((folder / PAGE).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A results folder with claims, figures, tables and a ledger, one specialist of which has a hostile name."""
    folder = tmp_path_factory.mktemp("page") / "results"
    rows = [row for seed in range(3) for row in generic(seed) + soup(4, seed, 0.1)]
    write_records(folder, [{**row, "specialist": row["specialist"].replace("a", HOSTILE)} for row in rows])
    write_csv(folder / "deviations.csv", [DEVIATION])
    assert main([str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def page(written) -> Page:
    return page_of(written)


def test_claims_come_first_then_figures_tables_and_deviations(page):
    assert page.texts("h2") == ["Claims", "Figures", "Tables", "Deviations"]
    assert "soup n=4 minus generic: 0.20 lower (3 seeds, 2 of 2 specialists)" in page.texts("td", "div")
    assert "main" in page.texts("h3") and any("better than generic" in title for title in page.texts("h3"))
    assert "router width" in page.texts("th")


def test_a_hostile_name_is_text(written, page):
    assert [text for text in page.texts("script") if "alert" in text] == [] and len(page.texts("script")) == 1
    assert HOSTILE in page.texts("th", "td")
    assert HOSTILE not in (written / PAGE).read_text(encoding="utf-8")


@needs_browser
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_browser_shows_it_without_scrolling_sideways(written, page, width, tmp_path):
    found = seen(written / PAGE, width, tmp_path)
    assert found == {"over": 0, "tables": len(page.texts("table")), "bare": 0, "sorted": "ascending", "broken": 0}


def test_every_word_of_a_section_is_escaped():
    table = Table(HOSTILE, HOSTILE, pd.DataFrame({HOSTILE: [HOSTILE]}), [HOSTILE])
    inner = Section(HOSTILE, (HOSTILE,), HOSTILE, Picture(HOSTILE.encode(), HOSTILE), table)
    text = html(HOSTILE, [Section(HOSTILE, sections=(inner,))])
    page = Page(text)
    assert HOSTILE not in text and not page.wrong
    words = page.texts("title", "h1", "h2", "h3", "p", "pre", "figcaption", "caption", "th", "a")
    assert len(words) == 12 and set(words) == {HOSTILE} and page.texts("li")[-1] == HOSTILE
    assert [own["alt"] for tag, own, _ in page.elements if tag == "img"] == [HOSTILE]


def test_every_table_has_a_caption_and_heads_with_scope(page):
    assert not page.wrong
    tables = page.texts("table")
    assert len(tables) == len(page.texts("caption")) == len(page.texts("thead")) > 5 and all(page.texts("caption"))
    scopes = [attributes.get("scope") for tag, attributes, _ in page.elements if tag == "th"]
    assert set(scopes) == {"col", "row"}
    assert scopes.count("row") == len(page.texts("tr")) - len(tables)


def test_links_lead_into_the_page_and_every_id_is_there_once(page):
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {attributes[key] for _, attributes, _ in page.elements for key in ("aria-labelledby",) if key in attributes}
    links = {attributes["href"].removeprefix("#") for tag, attributes, _ in page.elements if tag == "a"}
    assert links and named and links | named <= set(ids)


def test_nothing_is_fetched(written, page):
    for tag, attributes, _ in page.elements:
        for name in URLS & set(attributes):
            assert attributes[name].startswith("#" if tag == "a" else "data:image/svg+xml;base64,")
    assert "url(" not in (text := (written / PAGE).read_text(encoding="utf-8")) and "@import" not in text
    assert not re.search(r"https?://", text)


def test_the_page_says_its_language_and_each_figure_has_a_text(page):
    attributes = {tag: own for tag, own, _ in page.elements}
    assert attributes["html"]["lang"] == "en"
    images = [own for tag, own, _ in page.elements if tag == "img"]
    assert images and all(image["alt"] for image in images)


def test_contrast_of_every_colour_on_white(written):
    style = re.search(r"<style>(.*?)</style>", (written / PAGE).read_text(encoding="utf-8"), re.S)[1]
    colours = set(re.findall(r"[ {;]color: #([0-9a-f]{6})", style))
    assert len(colours) > 1
    assert all(1.05 / (luminance(colour) + 0.05) >= 4.5 for colour in colours)


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_columns_of_numbers_stand_on_the_right_in_both_forms_and_the_first_column_never():
    frame = pd.DataFrame({"seed": ["0", "1"], "loss": ["3.0", "missing"], "flag": ["", "x" * 41]})
    table = Table("main", "Losses", frame)
    assert table.markdown().splitlines()[2:4] == ["| seed | loss | flag |", "|---|---:|---|"]
    page = Page(html("x", [Section("main", table=table)]))
    assert page.texts("th", "td") == ["seed", "loss", "flag", "0", "3.0", "", "1", "missing", "x" * 41]
    kinds = [own.get("class", "") for tag, own, _ in page.elements if tag in ("th", "td")]
    assert kinds == ["", "number", "", "", "number", "", "", "number", "long"]


def test_a_folder_of_several_has_a_section_for_each_and_one_without_records_says_so(tmp_path, no_images):
    rows = [row for seed in range(2) for row in generic(seed) + soup(4, seed, 0.1)]
    write_records(tmp_path / "cpu", rows)
    write_records(tmp_path / "gpu" / "wheels", [row for row in rows if row["method"] == "generic"])
    write_csv(tmp_path / "deviations.csv", [DEVIATION])
    assert main([str(tmp_path)]) == 0
    page = page_of(tmp_path)
    assert page.texts("h2") == ["cpu", "gpu/wheels", tmp_path.name]
    assert {"cpu", "gpu/wheels", "Claims", "Figures", "Deviations"} <= set(page.texts("a"))
    assert [text for text in page.texts("p") if text.startswith("No record of a test split")]
    assert page_of(tmp_path / "cpu").texts("h2") == ["Claims", "Figures", "Tables"]


def test_where_no_claim_is_decided_the_figures_come_first(tmp_path, no_images):
    write_records(tmp_path, generic(0) + soup(4, 0, 0.1))  # one seed has no interval
    assert main([str(tmp_path)]) == 0
    assert page_of(tmp_path).texts("h2") == ["Figures", "Tables", "Claims"]


def test_the_folder_with_most_verdicts_comes_first(tmp_path, no_images):
    rows = [row for seed in range(2) for row in generic(seed) + soup(4, seed, 0.1)]
    write_records(tmp_path / "a", [row for row in rows if row["method"] == "generic"])  # each of its claims is not run
    write_records(tmp_path / "b", rows)
    assert main([str(tmp_path)]) == 0
    assert page_of(tmp_path).texts("h2") == ["b", "a", tmp_path.name]


def test_what_stands_between_backticks_is_code_and_still_escaped():
    table = Table("t", "t", pd.DataFrame({"a": ["1"]}), ["`mean` and `<b>`, one ` alone"])
    text = html("x", [Section("s", ("The file `runs.csv`.",), table=table)])
    page = Page(text)
    assert page.texts("code") == ["runs.csv", "mean", "<b>"] and "<b>" not in text and not page.wrong
    assert page.texts("li")[-1] == "mean and <b>, one ` alone"


def test_a_folder_with_validation_records_alone_says_so(tmp_path):
    write_records(tmp_path, [{**row, "split": "validation"} for row in generic(0)])
    assert main([str(tmp_path)]) == 0
    assert page_of(tmp_path).texts("p")[0].startswith("No record of a test split")


def test_check_does_not_ask_for_the_page(written):
    kept = (written / PAGE).read_bytes()
    (written / PAGE).unlink()
    assert main([str(written), "--check"]) == 0
    (written / PAGE).write_bytes(kept)
