"""One figure a file: each gives charts from a view (or from the corpus tables), or None where there is no data."""
