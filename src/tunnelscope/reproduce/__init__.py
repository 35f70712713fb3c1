"""The figures and tables of two papers as commands, and the ledger of what came out."""
