"""Training of the papers' networks: recipes, the loop, checkpoints."""
