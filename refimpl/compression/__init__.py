"""Making encoders smaller."""
