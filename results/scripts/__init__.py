"""The Lua scripts of results."""
