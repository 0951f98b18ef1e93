"""Every exception zeusdb-vs raises on purpose.

    ZeusDBError
    ├── ConfigurationError      (ValueError)         an option that is unknown or out of range
    ├── ArgumentTypeError       (TypeError)          an argument of the wrong type
    ├── RecordError             (ValueError)         a record that cannot be stored
    │   ├── IdError                                  its id
    │   ├── VectorError                              its vector: not finite, zero under cosine, not numbers
    │   │   └── DimensionError                       its vector's width
    │   └── MetadataError                            its metadata, text or payload
    ├── FilterError             (ValueError)         a filter that cannot be understood
    ├── RecordNotFoundError     (KeyError)           an id that is not in the index
    ├── ReadOnlyError           (RuntimeError)       a write through a handle that may only read
    ├── ClosedIndexError        (RuntimeError)       a call on a closed handle
    └── StorageError            (OSError)            a directory that cannot be read or written
        ├── IndexNotFoundError  (FileNotFoundError)  nothing there, or nothing of ours
        ├── ForeignDirectoryError (FileExistsError)  the path holds something that is not ours to replace
        ├── IndexLockedError                         another process is writing
        ├── UnsupportedVersionError                  written by a format this version cannot read
        └── CorruptIndexError   (ValueError)         files that are damaged, missing or contradict each other
            └── JournalDamagedError                  damage in the part of the journal known to be on disk

Each class is also the built-in in brackets, so that callers may catch what they know.
"""

from __future__ import annotations


class ZeusDBError(Exception):
    """Root of all errors raised by zeusdb-vs."""


class ConfigurationError(ZeusDBError, ValueError):
    """An option is unknown or its value is not allowed."""


class ArgumentTypeError(ZeusDBError, TypeError):
    """An argument has a type the call cannot take."""


class RecordError(ZeusDBError, ValueError):
    """A record cannot be stored as given."""


class IdError(RecordError):
    """A record's id is not a usable string."""


class VectorError(RecordError):
    """A vector is not finite, not numeric, or zero under the cosine space."""


class DimensionError(VectorError):
    """A vector has a width other than the index's."""


class MetadataError(RecordError):
    """Metadata, text or payload cannot be stored."""


class FilterError(ZeusDBError, ValueError):
    """A filter cannot be understood; the message holds the path to the part at fault."""


class RecordNotFoundError(ZeusDBError, KeyError):
    """An id is not in the index."""

    # KeyError prints the repr of its argument; these messages are sentences.
    __str__ = Exception.__str__


class ReadOnlyError(ZeusDBError, RuntimeError):
    """A write was asked of a handle that may only read."""


class ClosedIndexError(ZeusDBError, RuntimeError):
    """A call was made on a handle that has been closed."""


class StorageError(ZeusDBError, OSError):
    """A directory cannot be read or written."""


class IndexNotFoundError(StorageError, FileNotFoundError):
    """The path does not exist or holds no index."""


class ForeignDirectoryError(StorageError, FileExistsError):
    """The path holds something that is not an index and is therefore left alone."""


class IndexLockedError(StorageError):
    """Another process holds the directory's writer lock."""


class UnsupportedVersionError(StorageError):
    """The directory was written in a format this version cannot read."""


class CorruptIndexError(StorageError, ValueError):
    """Files of an index are damaged, missing or contradict each other."""


class JournalDamagedError(CorruptIndexError):
    """The journal is damaged below the point known to be on disk."""
