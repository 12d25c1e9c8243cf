"""Losses in closed form, each returning its value and the gradients of its array inputs."""
