"""ci/bench: what a monitor costs, beside Debian's conmon and the least that could be."""
