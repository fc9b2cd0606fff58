"""The shared L2 on Redis or Valkey."""
