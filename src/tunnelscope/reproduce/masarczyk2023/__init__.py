"""The Tunnel Effect (Masarczyk et al., NeurIPS 2023, arXiv:2305.19753): a function for each item."""
