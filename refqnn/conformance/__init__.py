"""Judge another implementation, and name the choice it made."""
