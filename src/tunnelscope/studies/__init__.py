"""Studies: a family of networks, declared in a file, trained and scanned anywhere, gathered in one table."""
