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
