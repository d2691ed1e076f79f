"""What can be chosen: axes, families, profiles, and every variant they make."""
