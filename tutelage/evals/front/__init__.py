"""Models measured by several rewards at once: their front, and what each group of models covers of what can be had."""
