"""Differentiable operations on arrays, each with its pullback; encoders and optimizers on flat dicts."""
