"""An annotator at work: the next item, its lease, the answer, a conversation with a model."""
