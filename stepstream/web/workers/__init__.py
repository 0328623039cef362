"""What the parent of workers serves: one answer for all of them."""
