"""Where pictures come from: public data sets, folders, zips, and a synthetic catalogue with graded similarity."""

from .catalogue import COLOURS, Catalogue, grades, render_catalogue
from .products import FAMILIES

__all__ = ["COLOURS", "FAMILIES", "Catalogue", "grades", "render_catalogue"]
