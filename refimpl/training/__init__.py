"""Training loops: one readable step each."""
