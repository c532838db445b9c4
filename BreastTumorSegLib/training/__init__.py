"""Training the networks on simulated exams: the seed of the training library."""
