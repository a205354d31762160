"""The demo: the whole story of a migration, on real input, without a key or a network."""
