"""Nearest-neighbour indexes."""
