"""Where entries rest."""
