"""Every operation of the service: as its routers have it, and as the OpenAPI document describes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.main import ROUTERS, app
from app.operation import Operation

Json = dict[str, Any]
DOCUMENT: Json = app.openapi()


@dataclass(frozen=True)
class Described:
    """One operation of the document."""

    name: str
    method: str
    path: str
    details: Json

    @property
    def success(self) -> int:
        """The status of an answer when all goes well: of several the one for something new."""
        return max(int(status) for status in self.details["responses"] if status.startswith("2"))

    @property
    def body(self) -> Json | None:
        """The description of the body by content type, if the operation takes one."""
        content: Json | None = self.details.get("requestBody", {}).get("content")
        return content

    @property
    def is_open311(self) -> bool:
        """Whether it answers and refuses as GeoReport v2 says: ids are any text, refusals are `errors`."""
        return "open311" in self.details["tags"]

    @property
    def ids(self) -> list[str]:
        """The parameters of the path that name something by its id."""
        return [
            each["name"] for each in self.parameters if each["in"] == "path" and each["name"].endswith("_id")
        ]

    @property
    def parameters(self) -> list[Json]:
        """Parameters, references resolved."""
        return [resolved(each) for each in self.details.get("parameters", [])]


def routes() -> Iterator[Operation]:
    """The endpoints themselves: the application only holds the routers that they were included from."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, Operation), route
            yield route


def resolved(node: Json) -> Json:
    """What a `$ref` points to, or the node itself."""
    while "$ref" in node:
        found = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


OPERATIONS = {
    details["operationId"]: Described(details["operationId"], method.upper(), path, details)
    for path, item in DOCUMENT["paths"].items()
    for method, details in item.items()
}
