"""Writing responses: the `Generator` contract and the engine that runs in this process."""
