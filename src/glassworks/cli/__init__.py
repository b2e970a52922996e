"""The command line: a table of verbs, a parser made from their signatures, and the recipe runner."""
