"""What the HTML report is put together from: sections, figures of runs, lineage, colours.  No torch."""
