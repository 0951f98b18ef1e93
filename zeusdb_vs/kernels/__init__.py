"""Compiled code, and only compiled code: arrays, addresses and numbers in, the same out.

- ``compile``: the decorators, what the processor has, and the cache; ``layout``: names of the numbers in a descriptor;
- ``llvm``, ``intrinsics``, ``simd``: what Numba has no word for: memory by address, integers in whole registers;
- ``rows``, ``exact_distances``, ``distances``: rows in chunks, distances on float32, and distances by code;
- ``codes``, ``product``, ``kmeans``, ``rotation``: writing scalar codes, product codes and their training;
- ``pool``, ``search``, ``scan``, ``reranking``: the sorted pool, walks of the graph, scans, and results out of both;
- ``build``, ``repair``: the graph made and mended.
"""
