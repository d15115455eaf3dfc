"""How much a text shares with reference texts: BLEU, ROUGE, METEOR, BERTScore, as the usual scripts compute them.

Each metric turns every output into a line of sums (`sums.Sums`), from which values, intervals and paired differences are made.
"""
