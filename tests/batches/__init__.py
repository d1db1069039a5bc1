"""Record batches of real clients, and what collects them."""
