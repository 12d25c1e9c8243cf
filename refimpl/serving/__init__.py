"""The system around the model: index table, pipelines, re-ranking."""
