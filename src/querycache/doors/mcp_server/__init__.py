"""MCP: over stdio and streamable HTTP."""
