"""What operators and developers run beside Synap: the demonstration and the benchmark."""
