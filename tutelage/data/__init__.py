"""Formats in and out, chat template -> tokens + loss mask, batches."""
