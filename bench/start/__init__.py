"""Case (e): starts of whole workers, ours and upstream's, from a warm, a cold and a slow volume."""
