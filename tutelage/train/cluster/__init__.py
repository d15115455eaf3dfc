"""What a command would take of many GPUs, told before any is paid for: memory per rank, time per step, and what limits both.

`gpus`: data sheets.  `models`: sizes of what is held.  `memory`: bytes per rank.  `work`: arithmetic, traffic and decoding in
seconds.  `plan`: both put together, and what limits.  `shown`: as a command prints it.  The decision record is 0029.
"""
