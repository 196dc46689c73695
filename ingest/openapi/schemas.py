"""JSON schemas of the types that endpoints build and check by."""

from typing import Any, Final

from pydantic import TypeAdapter
from typing_extensions import TypeForm

_REFERENCE: Final = "#/components/schemas/{model}"


class Schemas:
    """Makes schemas, and collects those of named types as the document's components."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}

    def schema_for(self, kind: TypeForm[Any]) -> dict[str, Any]:
        """The schema of this type. The named types in it become components."""
        schema = TypeAdapter[Any](kind).json_schema(ref_template=_REFERENCE)
        self._keep(schema.pop("$defs", {}))
        if schema.get("type") == "object" and "properties" in schema:
            self._keep({schema["title"]: schema})
            return {"$ref": _REFERENCE.format(model=schema["title"])}
        return schema

    def _keep(self, schemas: dict[str, Any]) -> None:
        for name, schema in schemas.items():
            assert self.components.setdefault(name, schema) == schema, f"two types are called {name}"


def inline(kind: TypeForm[Any]) -> dict[str, Any]:
    """The schema of a type that refers to no other."""
    schema = TypeAdapter[Any](kind).json_schema()
    assert "$defs" not in schema
    return schema
