"""The sections of the benchmark. Each is a function from a `Job` to plain JSON values."""
