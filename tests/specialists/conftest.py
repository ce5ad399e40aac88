"""A soup, documents in the manner of its corpus, and the command that makes a specialist of them."""

import pytest
from made_up_soups import write_documents

from soe_bench import specialize
from soe_bench.specialists.specialist import Soup


@pytest.fixture(scope="module")
def soup(soup_runs):
    return Soup.load(soup_runs["soup"])


@pytest.fixture
def texts(soup, tmp_path):
    return write_documents(tmp_path / "texts", soup.corpus, "uneven", 12)


@pytest.fixture
def command(soup_runs, texts, tmp_path, capsys):
    """command("key=value", ...) -> (status, printed, errors); soup, documents and out are given unless told."""

    def run(*given, **changed):
        values = {"soup": soup_runs["soup"], "documents": texts, "out": tmp_path / "out", "gate": "warn"} | changed
        status = specialize.main([f"{key}={value}" for key, value in values.items() if value is not None] + [*given])
        return status, *capsys.readouterr()

    return run
