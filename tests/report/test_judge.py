"""The claims of another method with experts, as the command prints them."""

from made_up_records import run, write_records

from soe_bench.report import judge


def records(method: str) -> list[dict]:
    """Three seeds of generic pretraining, and of the method 0.2 (a) and 0.4 (b) below it."""
    return [
        row
        for seed in range(3)
        for row in (
            *run("generic", 0, seed, {"a": 3.0, "b": 4.0}, "none"),
            *run(method, 4, seed, {"a": 2.8 - 0.002 * seed, "b": 3.6}, "estimate"),
        )
    ]


def test_the_method_stands_in_the_place_of_the_soup(tmp_path, capsys):
    write_records(tmp_path, records("cooled"))
    assert judge.main(["cooled", f"results={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "  C1.1*  cooled n=4 minus generic: -0.301 (" in said and "soup n=" not in said
    assert "missing: no record of cooled with n = 64" in said


def test_a_row_about_the_soup_itself_is_not_printed_for_another_method(tmp_path, capsys):
    """The soup's own specialists with the pairs of tokens are those of no other method."""
    rows = [*records("cooled"), *run("bigram_adjustment", 0, 0, {"a": 3.0, "b": 4.0}, "estimate", specialist_flops=0.0)]
    rows += run("bigram_adjustment_of_soup", 0, 0, {"a": 2.0, "b": 3.0}, "estimate", specialist_flops=0.0)
    write_records(tmp_path, rows)
    assert judge.main(["cooled", f"results={tmp_path}"]) == 0
    name = "cooled minus generic on as many FLOPs, both with the pairs of tokens"
    assert f"{name}: not run, missing: no record of bigram_adjustment_of_cooled" in capsys.readouterr().out


def test_one_seed_and_specialist_have_no_interval(tmp_path, capsys):
    write_records(tmp_path, [row for row in records("cooled")[:4] if row["specialist"] == "a"])
    assert judge.main(["cooled", f"results={tmp_path}"]) == 0
    said = capsys.readouterr().out
    assert "minus generic: -0.200 (no interval; 1 seed, 1 of 1), not separated" in said


def test_a_method_without_experts_is_refused(tmp_path, capsys):
    write_records(tmp_path, records("soup"))
    assert judge.main(["generic", f"results={tmp_path}"]) == 2
    assert "no record of a method 'generic' with experts: there are soup" in capsys.readouterr().err
    assert judge.main([]) == 2
