"""What runs schemathesis against the OpenAPI document."""
