"""Atom 1.0 feeds (RFC 4287), in pages (RFC 5005), with a place for each entry (GeoRSS Simple)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from app.geo import Point

MEDIA_TYPE = "application/atom+xml"
_ATOM, _GEORSS = "http://www.w3.org/2005/Atom", "http://www.georss.org/georss"
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
# Everything that XML 1.0 cannot say, not even escaped.
_UNSAYABLE = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

register_namespace("", _ATOM)
register_namespace("georss", _GEORSS)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing; `place` is WGS-84, `link` an address that shows it."""

    id: str
    title: str
    category: str
    category_label: str
    published: datetime
    updated: datetime
    summary: str
    link: str
    place: Point


@dataclass(frozen=True, slots=True)
class Feed:
    """One page; `first` and `next` are the addresses of other pages."""

    id: str
    title: str
    author: str
    language: str
    link: str
    first: str
    next: str | None
    entries: Sequence[Entry]


def render(feed: Feed) -> bytes:
    """The document in UTF-8. The same content gives the same bytes."""
    root = Element(_name("feed"), {"xml:lang": feed.language})
    _say(root, "id", feed.id)
    _say(root, "title", feed.title)
    _say(SubElement(root, _name("author")), "name", feed.author)
    _say(root, "updated", _time(max((entry.updated for entry in feed.entries), default=_NEVER)))
    for relation, address in (("self", feed.link), ("first", feed.first), ("next", feed.next)):
        if address is not None:
            SubElement(root, _name("link"), {"rel": relation, "type": MEDIA_TYPE, "href": address})
    for entry in feed.entries:
        _describe(SubElement(root, _name("entry")), entry)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _describe(element: Element, entry: Entry) -> None:
    _say(element, "id", entry.id)
    _say(element, "title", entry.title)
    SubElement(element, _name("category"), {"term": entry.category, "label": _clean(entry.category_label)})
    SubElement(element, _name("link"), {"rel": "alternate", "type": "application/json", "href": entry.link})
    _say(element, "published", _time(entry.published))
    _say(element, "updated", _time(entry.updated))
    _say(element, "summary", entry.summary)
    point = SubElement(element, f"{{{_GEORSS}}}point")
    point.text = f"{entry.place.lat:.6f} {entry.place.lng:.6f}"


def _say(parent: Element, name: str, text: str) -> None:
    SubElement(parent, _name(name)).text = _clean(text)


def _clean(text: str) -> str:
    return _UNSAYABLE.sub(" ", text)


def _name(tag: str) -> str:
    return f"{{{_ATOM}}}{tag}"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
