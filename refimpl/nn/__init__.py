"""Differentiable operations on arrays, each returning its value and its pullback; encoders and optimizers on flat dicts."""
