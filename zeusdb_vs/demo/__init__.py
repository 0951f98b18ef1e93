"""The demo: this machine's Python documentation indexed, asked, saved, and asked again by a second process.

``corpus.py`` reads the docstrings of the standard library, ``embedder.py`` turns text into vectors,
``run.py`` is the demo itself, ``answers.py`` the questions and the second process, ``terminal.py`` what is
printed.
"""
