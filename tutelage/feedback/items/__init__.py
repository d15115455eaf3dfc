"""Items: made from responses, chosen by what is worth asking, browsed, and settled where answers conflict."""
