"""Responses from servers: who draws them is another process, spoken to over HTTP."""
