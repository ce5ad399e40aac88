"""Baselines: one file per method, each under the contract of soe_bench/method.py."""
