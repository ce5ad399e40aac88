"""Baselines: one file a method, each under the contract of soe_bench/method.py."""
