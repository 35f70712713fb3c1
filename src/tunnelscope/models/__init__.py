"""Networks by name, from a file or as modules, with their weights and what they do to images."""
