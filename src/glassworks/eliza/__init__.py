"""ELIZA as a Transformer: scripts, the programs that follow them, and decoder language models compiled from them."""
