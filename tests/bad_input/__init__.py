"""Everything that may be wrong with a data set, a table or a submission, one row each."""
