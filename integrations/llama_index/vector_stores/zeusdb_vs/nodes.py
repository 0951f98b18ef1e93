"""LlamaIndex nodes as records, and back: every node type comes back equal, its hash included.

A record keeps the node's id, text and metadata as its own, so that other programs read and filter them. What only
LlamaIndex knows lies in the payload under ``"llama_index"``::

    {"llama_index.type": "TextNode", "llama_index.ref_doc_id": "doc-1",
     "llama_index": [{"relationships": [...], "end_char_idx": 812}]}

Type and document are what filters and deletions ask for. The fields that are not as their class has them by default lie
inside a list: of a list the index's field columns keep a digest, not every path within. For the same reason the keys
are not nested, and relationships are one flat list, two entries for each, ``"SOURCE|4|its hash|its id"`` and its
metadata or null: each level and each value costs time at every add and every read.

Core's own JSON form is not used, for it loses data: media bytes, the type of documents, objects of index nodes.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from llama_index.core.bridge.pydantic import AnyUrl, BaseModel
from llama_index.core.schema import (
    BaseNode,
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)

from zeusdb_vs import ConfigurationError, MetadataError

PAYLOAD_KEY = "llama_index"
TYPE_FIELD = f"{PAYLOAD_KEY}.type"
REF_DOC_FIELD = f"{PAYLOAD_KEY}.ref_doc_id"

Plain: TypeAlias = "dict[str, Any]"

_OWN_COLUMNS = ("id_", "embedding", "metadata", "text")
"""Fields that a record keeps elsewhere than among the fields of its payload."""
_OBJECT_TYPES: dict[Any, Any] = {member.value: member for member in ObjectType}
_RELATIONSHIPS = dict(NodeRelationship.__members__)
_RELATED_NAMES = set(RelatedNodeInfo.model_fields)
_BAR = "|"
_MANY = "*"
"""Before the name of a relationship that is a list of nodes."""


# ---------------------------------------------------------------------------------------------- node types


@dataclass(frozen=True, slots=True)
class _NodeType:
    """What is known of a node class: its fields in order, and what they are by default."""

    cls: type[BaseNode]
    constants: dict[str, Any]
    """All fields; None where `factories` gives the default or there is none."""
    factories: tuple[tuple[str, Callable[[], Any]], ...]
    fields: tuple[tuple[str, Any], ...]
    """Those that go among the payload's fields, each with what it is by default; that is never handed out."""
    names: set[str]
    has_text: bool
    has_private: bool

    @classmethod
    def of(cls, node_class: type[BaseNode]) -> _NodeType:
        constants: dict[str, Any] = {}
        factories = []
        fields = []
        for name, info in node_class.model_fields.items():
            factory: Any = info.default_factory
            if factory is not None and name not in _OWN_COLUMNS:
                factories.append((name, factory))
            constants[name] = None if info.is_required() or factory is not None else info.default
            if name not in _OWN_COLUMNS:
                fields.append((name, info.default if factory is None else factory()))
        return cls(
            node_class,
            constants,
            tuple(factories),
            tuple(fields),
            set(constants),
            "text" in constants,
            bool(node_class.__private_attributes__),
        )

    def build(self, values: dict[str, Any]) -> BaseNode:
        """Make a node of checked values; pydantic's validation would cost more than the whole search."""
        if self.has_private:
            return self.cls.model_construct(**values)
        node: BaseNode = _construct(self.cls, values, self.names)
        return node


def _construct(cls: type[BaseModel], values: dict[str, Any], names: set[str]) -> Any:
    """Do what pydantic's `model_construct` does for a model without private attributes, in a hundredth of its time."""
    model = _new(cls)
    _set_dict(model, values)
    _set_fields_set(model, names.copy())
    _set_extra(model, None)
    _set_private(model, None)
    return model


_new = object.__new__
_set_dict = BaseModel.__dict__["__dict__"].__set__
_set_fields_set = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__
"""The slots of a model, past its own `__setattr__`."""

_TYPES: dict[str, _NodeType] = {}
_NAMES: dict[type[BaseNode], str] = {}


def register_node_type(node_class: type[BaseNode], name: str | None = None) -> None:
    """Make known a node class of one's own, so that stored nodes of it can be read.

    Adding such a node makes its class known as well; a program that only reads has to call this first.

    Parameters
    ----------
    node_class : type of BaseNode
    name : str, optional
        What nodes of it are stored as: its ``class_name()`` by default, or its module and name where that belongs to
        another class.

    Raises
    ------
    ConfigurationError
        The name stands for another class already.
    """
    if name is None:
        name = node_class.class_name()
        if name in _TYPES and _TYPES[name].cls is not node_class:
            name = f"{node_class.__module__}.{node_class.__qualname__}"
    known = _TYPES.get(name)
    if known is not None and (known.cls.__module__, known.cls.__qualname__) != (
        node_class.__module__,
        node_class.__qualname__,
    ):
        raise ConfigurationError(f"{name!r} stands for the node type {known.cls.__qualname__} already")
    _TYPES[name] = _NodeType.of(node_class)
    _NAMES[node_class] = name


for _class in (TextNode, IndexNode, ImageNode, Node, Document, ImageDocument):
    register_node_type(_class)
_DEFAULT_TYPE = _TYPES[TextNode.class_name()]


def non_text_types() -> list[str]:
    """Return the stored names of the types that core also keeps in an index's own structure."""
    return [name for name, known in _TYPES.items() if issubclass(known.cls, IndexNode | ImageNode)]


# ---------------------------------------------------------------------------------------------- to records


def encode_node(node: BaseNode) -> tuple[str | None, Plain]:
    """Return the text of a node and the payload of its record.

    Raises
    ------
    MetadataError
        A field holds what JSON cannot keep, such as an index node's object that is neither a node nor plain data.
    """
    name = _NAMES.get(type(node))
    if name is None:
        register_node_type(type(node))
        name = _NAMES[type(node)]
    known = _TYPES[name]
    extras: Plain = {TYPE_FIELD: name}
    ref_doc_id = ref_doc_id_of(node)
    if ref_doc_id is not None:
        extras[REF_DOC_FIELD] = ref_doc_id
    values = node.__dict__
    fields: Plain = {}
    for field, default in known.fields:
        value = values.get(field)
        if value != default:
            fields[field] = _encode_field(field, value)
    if fields:
        extras[PAYLOAD_KEY] = [fields]
    return _text_of(node, known), extras


def ref_doc_id_of(node: BaseNode) -> str | None:
    """Return the id of the document a node comes from, None where there is none or several."""
    source = node.relationships.get(NodeRelationship.SOURCE)
    return source.node_id if isinstance(source, RelatedNodeInfo) else None


def _text_of(node: BaseNode, known: _NodeType) -> str | None:
    if known.has_text:
        text: str | None = node.__dict__["text"]
        return text
    resource = node.__dict__.get("text_resource")
    return None if resource is None else resource.text


def _encode_field(field: str, value: Any) -> Any:
    if field == "relationships":
        return _encode_relationships(value)
    if field == "obj":
        return _encode_object(value)
    if isinstance(value, MediaResource):
        return _encode_resource(value, with_text=field != "text_resource")
    return _encode_plain(field, value)


def _encode_plain(field: str, value: Any) -> Any:
    if isinstance(value, AnyUrl | Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes | BaseModel):
        raise MetadataError(f"field {field!r} holds a {type(value).__name__}, which cannot be stored")
    return value


def _encode_relationships(relationships: Mapping[Any, Any]) -> list[Any]:
    flat: list[Any] = []
    for kind, related in relationships.items():
        name = kind.name if isinstance(kind, NodeRelationship) else str(kind)
        if not isinstance(related, list):
            flat += _encode_related(name, related)
            continue
        if not related:
            flat += (_MANY + name, None)
        for one in related:
            flat += _encode_related(_MANY + name, one)
    return flat


def _encode_related(name: str, related: RelatedNodeInfo) -> tuple[Any, Any]:
    kind, digest = related.node_type, related.hash
    if isinstance(kind, Enum):
        kind = kind.value
    metadata = related.metadata or None
    if kind == "" or digest == "" or _BAR in f"{name}{kind}{digest}":
        # Not told apart in one string; no node that core makes has such.
        return [name, kind, digest, related.node_id], metadata
    return _BAR.join((name, kind or "", digest or "", related.node_id)), metadata


def _encode_resource(resource: MediaResource, *, with_text: bool) -> Plain:
    plain: Plain = {}
    for field, value in resource.__dict__.items():
        if field == "text":
            # The record's text; said here where there is none, for an empty resource is not a missing one.
            if with_text and value is not None:
                plain["text"] = value
            elif not with_text and value is None:
                plain["text"] = None
        elif field == "data" and value is not None:
            # Core keeps base64 here, which is text already.
            if value.isascii():
                plain["data"] = value.decode("ascii")
            else:
                plain["bytes"] = base64.b64encode(value).decode("ascii")
        elif value is not None:
            plain[field] = _encode_plain(field, value)
    return plain


def _encode_object(value: Any) -> Plain:
    if isinstance(value, BaseNode):
        text, extras = encode_node(value)
        return {
            "node": {
                "id": value.id_,
                "text": text,
                "metadata": value.metadata,
                "embedding": value.embedding,
                **extras,
            }
        }
    if isinstance(value, str | int | float | list | dict):
        return {"value": value}
    raise MetadataError(
        f"obj is a {type(value).__name__}, which lives in memory only; hand it to the index instead: "
        "VectorStoreIndex(nodes, objects=[...]), or an object_map of the retriever"
    )


# ---------------------------------------------------------------------------------------------- from records


def decode_node(
    record_id: str,
    text: str | None,
    metadata: dict[str, Any],
    payload: Mapping[str, Any] | None,
    embedding: list[float] | None = None,
) -> BaseNode:
    """Return the node a record holds; a record that LlamaIndex did not write is a TextNode.

    Parameters
    ----------
    record_id, text, metadata, payload
        Of the record; `metadata` becomes the node's own.
    embedding : list of float, optional

    Raises
    ------
    ConfigurationError
        The node is of a type that this program does not know; `register_node_type` makes it known.
    """
    return _decode(record_id, text, metadata, {} if payload is None else payload, embedding)


def _decode(
    node_id: str, text: str | None, metadata: dict[str, Any], extras: Mapping[str, Any], embedding: Any
) -> BaseNode:
    name = extras.get(TYPE_FIELD)
    known = _DEFAULT_TYPE if name is None else _TYPES.get(name)
    if known is None:
        raise ConfigurationError(
            f"node {node_id!r} is of the type {name!r}, which is not known here; "
            "call register_node_type(its class) first"
        )
    stored = extras.get(PAYLOAD_KEY)
    fields: Plain = stored[0] if stored else {}
    values = known.constants.copy()
    for field, factory in known.factories:
        if field not in fields:
            values[field] = factory()
    values["id_"] = node_id
    values["embedding"] = embedding
    values["metadata"] = metadata
    if known.has_text:
        values["text"] = text or ""
    for field, plain in fields.items():
        decode = _DECODERS.get(field)
        values[field] = plain if decode is None else decode(plain, text)
    return known.build(values)


def _decode_relationships(flat: list[Any], _text: str | None) -> dict[Any, Any]:
    relationships: dict[Any, Any] = {}
    entries = iter(flat)
    for entry, metadata in zip(entries, entries, strict=True):
        name, *rest = entry.split(_BAR, 3) if type(entry) is str else entry
        related = None
        if rest:
            kind, digest, node_id = rest
            if type(entry) is str:
                kind, digest = kind or None, digest or None
            related = _construct(
                RelatedNodeInfo,
                {
                    "node_id": node_id,
                    "node_type": _OBJECT_TYPES.get(kind, kind),
                    "metadata": {} if metadata is None else metadata,
                    "hash": digest,
                },
                _RELATED_NAMES,
            )
        known = _RELATIONSHIPS.get(name)
        if known is not None:
            relationships[known] = related
        elif name.startswith(_MANY):
            many = name[len(_MANY) :]
            group = relationships.setdefault(_RELATIONSHIPS.get(many, many), [])
            if related is not None:
                group.append(related)
        else:
            relationships[name] = related
    return relationships


def _decode_resource(plain: Mapping[str, Any], _text: str | None) -> MediaResource:
    return _resource_of(plain, None)


def _resource_of(plain: Mapping[str, Any], text: str | None) -> MediaResource:
    values: dict[str, Any] = dict.fromkeys(MediaResource.model_fields)
    values["text"] = text
    values.update(plain)
    if values.pop("bytes", None) is not None:
        values["data"] = base64.b64decode(plain["bytes"])
    elif values["data"] is not None:
        values["data"] = values["data"].encode("ascii")
    if values["path"] is not None:
        values["path"] = Path(values["path"])
    if values["url"] is not None:
        values["url"] = AnyUrl(values["url"])
    resource: MediaResource = _construct(MediaResource, values, set(values))
    return resource


def _decode_object(plain: Mapping[str, Any], _text: str | None) -> Any:
    node = plain.get("node")
    if node is None:
        return plain["value"]
    return _decode(node["id"], node["text"], node["metadata"], node, node["embedding"])


_DECODERS: dict[str, Callable[[Any, str | None], Any]] = {
    "relationships": _decode_relationships,
    "obj": _decode_object,
    "text_resource": _resource_of,
    "image_resource": _decode_resource,
    "audio_resource": _decode_resource,
    "video_resource": _decode_resource,
}
"""How fields are read that are not plain values; the text of the record is that of its `text_resource`."""
