"""From what people have (files, hub data sets, uploads) to records: THE reader, for trainers and for the store."""
