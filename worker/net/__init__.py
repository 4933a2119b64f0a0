"""Files from the internet: downloads that are bounded, checked and public."""
