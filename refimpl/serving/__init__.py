"""The system around the model: from a folder of pictures to a ranked answer.

embedding     pictures -> unit vectors; the one door to the model for indexing and for queries
index_table   names, change stamps and embeddings of a collection, in one file
indexing      brings the table up to date with a folder
prediction    a query picture, or a crop of it -> ranked rows
"""

from .embedding import Encoder, embed, load_encoder, make_encoder, pretrained_encoder, save_encoder
from .index_table import IndexTable, empty_table, fingerprint, load_table, save_table
from .indexing import Indexed, find_pictures, update_table
from .prediction import crop, search

__all__ = [
    "Encoder",
    "IndexTable",
    "Indexed",
    "crop",
    "embed",
    "empty_table",
    "find_pictures",
    "fingerprint",
    "load_encoder",
    "load_table",
    "make_encoder",
    "pretrained_encoder",
    "save_encoder",
    "save_table",
    "search",
    "update_table",
]
