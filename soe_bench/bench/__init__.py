"""`python -m soe_bench.bench`: time and memory of the soup beside their limits, one file per subject."""
