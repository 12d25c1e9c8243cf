"""Where pictures come from: public data sets, folders, zips, and a synthetic catalogue with graded similarity."""
