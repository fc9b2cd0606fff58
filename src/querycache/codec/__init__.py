"""Value <-> bytes, in a fixed order."""
