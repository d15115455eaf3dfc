"""A plain Llama on a CPU, written by hand: `llama` for whole sequences, `rows` for cached decoding."""
