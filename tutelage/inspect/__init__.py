"""What a file holds, before anything learns from it: `look` gives the facts, `text` and `page` say them."""
