"""The harness that measures zeusdb-vs against its peers; run it with ``python -m benchmarks``."""
