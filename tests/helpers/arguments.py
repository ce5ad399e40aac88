"""The arguments of every test run."""

from pathlib import Path


def base_arguments(tmp_path: Path, shared_home: Path) -> list[str]:
    """Arguments of every test run. The corpora are shared by a link; runs and results are the test's own."""
    home = tmp_path / "home"
    if not home.exists():
        home.mkdir()
        (shared_home / "data").mkdir(exist_ok=True)
        (home / "data").symlink_to(shared_home / "data")
    return ["scale=test", "wandb.mode=disabled", "threads=1", f"home={home}", f"results_dir={tmp_path / 'results'}"]
