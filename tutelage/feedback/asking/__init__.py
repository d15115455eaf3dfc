"""What is asked and what is answered: schemas, answers, their checks, their order on the screen, their rows."""
