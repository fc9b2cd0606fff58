"""Python: the names that users import."""
