"""Front doors: translate a protocol to a use case and back; decide nothing."""
