"""Every tensor of an integer network, and the first that differs."""
