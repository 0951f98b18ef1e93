"""The docstrings of the Python standard library on this machine.

Sources are parsed, never imported: some modules of the standard library do things when imported
(``antigravity`` opens a browser, ``this`` prints). Functions compiled in C have no source to parse, so a
short list of harmless compiled modules is imported and asked for its docstrings.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Third-party code, test suites, and applications that happen to ship with Python.
_SKIPPED_FOLDERS = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "site-packages",
        "test",
        "tests",
        "turtledemo",
    }
)

# Compiled modules that only define things when imported.
_COMPILED_MODULES = (
    *("array", "binascii", "builtins", "cmath", "itertools", "math"),
    *("select", "sys", "time", "unicodedata", "zlib"),
)

_EMBEDDED_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented module, class, function or method.

    Attributes
    ----------
    id : str
        Dotted name, unique in the corpus: ``"gzip.compress"``.
    text : str
        The docstring, indentation removed.
    metadata : dict
        ``module`` ("gzip"), ``package`` (its first part), ``kind`` ("module", "class", "function", "method"),
        ``name`` ("compress"), ``public`` (no part of the dotted name starts with an underscore), ``words``
        (length of the docstring), and for parsed sources ``file`` and ``line``.
    """

    id: str
    text: str
    metadata: dict[str, Any]

    @property
    def embedded_text(self) -> str:
        """What the embedder sees: the dotted name, the summary, and how the docstring begins.

        Whole docstrings would drown what a short question asks for in details of parameters.
        """
        summary = self.text.partition("\n\n")[0]
        return f"{self.id}\n{summary}\n{self.text[:_EMBEDDED_CHARACTERS]}"


def source_files(root: Path | None = None) -> list[Path]:
    """List the standard library's source files, sorted.

    Parameters
    ----------
    root : Path, optional
        Folder to walk; the running interpreter's standard library when omitted.

    Returns
    -------
    list of Path
        Absolute paths of ``.py`` files, without tests, third-party code and bundled applications.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    return sorted(
        path for path in root.rglob("*.py") if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts[:-1])
    )


def read_source(path: Path, root: Path | None = None) -> list[Entry]:
    """Read the docstrings of one source file.

    Parameters
    ----------
    path : Path
        A Python source file under `root`.
    root : Path, optional
        Folder that holds the top-level modules; the standard library when omitted.

    Returns
    -------
    list of Entry
        In source order. Empty for a file that this Python cannot parse, such as a template.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old sources: not the reader's business
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []
    file = path.relative_to(root).as_posix()
    return [
        _entry(module, qualified_name, kind, text, file=file, line=line)
        for qualified_name, kind, text, line in _documented(tree, prefix="", inside_class=False)
    ]


def read_compiled() -> list[Entry]:
    """Read the docstrings of a few compiled modules (`zlib`, `math`, `builtins` ...).

    Returns
    -------
    list of Entry
        Sorted by module and name. A module that this Python lacks is left out.
    """
    entries = []
    for module_name in _COMPILED_MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError:
            continue
        entries += _read_compiled_module(module_name, module)
    return entries


def read_corpus(root: Path | None = None) -> Iterator[tuple[Path, list[Entry]]]:
    """Read the whole standard library, file by file, ids made unique.

    Parameters
    ----------
    root : Path, optional
        Folder that holds the top-level modules; the standard library, and its compiled modules, when omitted.

    Yields
    ------
    (Path, list of Entry)
        The file just read (a compiled module's entries come under its name) and its documented objects.
    """
    seen: set[str] = set()
    if root is None:
        yield Path("compiled modules"), _unique(read_compiled(), seen)
    for path in source_files(root):
        yield path, _unique(read_source(path, root), seen)


def _documented(node: ast.AST, prefix: str, inside_class: bool) -> Iterator[tuple[str, str, str, int]]:
    """Yield (qualified name, kind, docstring, line) of a node and of what it defines.

    The insides of functions are left out. Other statements (``if sys.platform == ...:``, ``try:``) are looked
    through: they hold definitions too.
    """
    if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        if not isinstance(node, ast.Module):
            prefix = f"{prefix}.{node.name}" if prefix else node.name
        text = ast.get_docstring(node)
        if text and text.strip():
            yield prefix, _kind(node, inside_class), text.strip(), getattr(node, "lineno", 1)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        inside_class = isinstance(node, ast.ClassDef)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.stmt, ast.excepthandler)):
            yield from _documented(child, prefix, inside_class)


def _kind(node: ast.AST, inside_class: bool) -> str:
    if isinstance(node, ast.Module):
        return "module"
    if isinstance(node, ast.ClassDef):
        return "class"
    return "method" if inside_class else "function"


def _read_compiled_module(module_name: str, module: object) -> list[Entry]:
    entries = [_entry(module_name, "", "module", inspect.getdoc(module) or "")]
    for name, value in sorted(vars(module).items()):
        if inspect.isclass(value) and value.__module__ == module_name:
            entries.append(_entry(module_name, name, "class", inspect.getdoc(value) or ""))
            entries += [
                _entry(module_name, f"{name}.{member}", "method", inspect.getdoc(attribute) or "")
                for member, attribute in sorted(vars(value).items())
                if inspect.isroutine(attribute) and not member.startswith("__")
            ]
        elif inspect.isbuiltin(value):
            entries.append(_entry(module_name, name, "function", inspect.getdoc(value) or ""))
    return [entry for entry in entries if entry.text]


def _entry(module: str, qualified_name: str, kind: str, text: str, **place: Any) -> Entry:
    dotted = f"{module}.{qualified_name}" if qualified_name else module
    metadata = {
        "module": module,
        "package": module.partition(".")[0],
        "kind": kind,
        "name": dotted.rpartition(".")[2],
        "public": not any(part.startswith("_") for part in dotted.split(".")),
        "words": len(text.split()),
        **place,
    }
    return Entry(id=dotted, text=text, metadata=metadata)


def _unique(entries: list[Entry], seen: set[str]) -> list[Entry]:
    """Number the later ones of equal ids (a function defined once per platform): ``os.getlogin#2``."""
    unique = []
    for entry in entries:
        name, number = entry.id, 1
        while name in seen:
            number += 1
            name = f"{entry.id}#{number}"
        seen.add(name)
        unique.append(entry if number == 1 else Entry(name, entry.text, entry.metadata))
    return unique
