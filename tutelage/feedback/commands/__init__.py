"""The commands `tutelage feedback ...`, each with a `main(settings, console)`.  No torch."""
