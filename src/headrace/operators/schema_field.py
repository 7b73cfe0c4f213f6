"""A schema as a field of an operator; models have such fields too."""

from headrace.core.schema_field import SchemaField, dtype_from_text, schema_field

__all__ = ["SchemaField", "dtype_from_text", "schema_field"]
