"""The command line: every command; tables, lines or JSON."""
