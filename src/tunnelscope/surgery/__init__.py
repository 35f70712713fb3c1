"""A network changed on purpose: its tunnel reset, or replaced by a linear map."""
