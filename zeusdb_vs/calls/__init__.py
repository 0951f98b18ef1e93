"""The calls of `HNSWIndex`, a file for each kind; `index.py` makes one class of them.

`handle.py` holds what all of them work on. Calls check what they are given and lock for changes; the rest is done by
the collection and by the functions of `reading`, `reports`, `snapshots` and `searching`.
"""
