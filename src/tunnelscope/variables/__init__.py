"""Which variables move r, ρ and A, by how much and how surely."""
