"""Settings: YAML files and `key=value` in, one frozen and checked object out."""
