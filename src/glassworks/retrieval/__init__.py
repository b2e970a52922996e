"""Documents in a database, found again for a question, and read by a language model that cites them."""
