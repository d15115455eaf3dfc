"""Preflight: the tokenised data set, and a report of what became of the rows, shown before training starts.

Tokens and report are kept on disk (`work`), and rows that were tokenised before are not read again.  What is dropped is
counted by reason and never silent; when more than a set share would be dropped, training does not start.  The report shows
one row as the model will see it, with the trained tokens marked.
"""
