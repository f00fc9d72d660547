"""The way of a sale: read it, keep it, plan it, find its card, make 7stamp agree."""
