"""What pyproject.toml cannot say: conf/ is installed as soe_bench/conf, where every command looks for it first."""

from setuptools import find_namespace_packages, setup

OWN = ["soe_bench*", "baselines*", "hydra_plugins*"]

setup(
    packages=[*find_namespace_packages(include=OWN, exclude=["*.egg-info"]), "soe_bench.conf"],
    package_dir={"soe_bench.conf": "conf"},
    package_data={"soe_bench.conf": ["**/*"], "soe_bench.report": ["page.html"]},
)
