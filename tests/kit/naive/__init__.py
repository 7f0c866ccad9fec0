"""Contract section 3 a second time, sentence by sentence; naive_judge is its front."""
