"""What several test modules use: engines, models, cycles and processes to test with. No tests."""
