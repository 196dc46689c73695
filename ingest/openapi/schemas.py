"""JSON schemas from the types that endpoints build and check by. Knows no endpoint."""

from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypeForm

_PLACE = "#/components/schemas/{model}"


class Schemas:
    """Collects what is referred to by its name."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def of(self, kind: TypeForm[Any]) -> dict[str, Any]:
        """The schema of this type; what it names is among the components."""
        schema = TypeAdapter[Any](kind).json_schema(ref_template=_PLACE)
        self._keep(schema.pop("$defs", {}))
        if schema.get("type") == "object" and "properties" in schema:
            self._keep({schema["title"]: schema})
            return {"$ref": _PLACE.format(model=schema["title"])}
        return schema

    def _keep(self, schemas: dict[str, Any]) -> None:
        for name, schema in schemas.items():
            assert self.components.setdefault(name, schema) == schema, f"two types are called {name}"


def inline(kind: TypeForm[Any]) -> dict[str, Any]:
    """The schema of a type that refers to no other."""
    schema = TypeAdapter[Any](kind).json_schema()
    assert "$defs" not in schema
    return schema
