"""One system of the papers a file; README.md tables them."""
