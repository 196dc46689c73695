"""A fleet on one machine: consumers whose GPU is pretended, and what the rest of the system does with them."""
