"""What both the filter language and the field indexes stand on: values, trees, matching, sorted dictionaries.

Bottom up, each file imports only those before it:

- ``values``: how one metadata value is classified, compared and keyed;
- ``operands``: the operators, and what they compare with, checked and made immutable;
- ``tree``: the public filter objects, checked when they are made;
- ``blobs``: many byte strings in two arrays, searched and scanned with NumPy;
- ``terms``: the sorted distinct values of one field;
- ``choices``: which terms a comparison chooses, as ranges or flags;
- ``texts``: tests of strings, LIKE patterns among them;
- ``matching``: a comparison as a test of one value, and as a choice among terms;
- ``columns``: one field over a range of records;
- ``segments``: all fields over a range of records, and how trees are evaluated there;
- ``packing``: segments as bytes;
- ``views``: what readers hold: which slots a filter matches, and what fields there are.
"""
