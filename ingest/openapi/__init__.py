"""The OpenAPI document: put together from the declarations that stand beside the endpoints."""
