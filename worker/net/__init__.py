"""Downloads from the internet: bounded, checked, and from public addresses alone."""
