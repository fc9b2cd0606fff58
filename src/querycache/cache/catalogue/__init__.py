"""What we cache: one declaration each."""
