"""Linear probes: how well classes can be told apart in a layer's features."""
