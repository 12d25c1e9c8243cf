"""Image bytes to arrays: decoding, preprocessing."""
