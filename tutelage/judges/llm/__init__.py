"""Language models that judge: templates, questions, answers, verdicts."""
