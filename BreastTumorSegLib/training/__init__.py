"""Training the networks on simulated exams."""
