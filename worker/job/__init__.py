"""One job from its request to its answer: `pipeline` is the order of its stages."""
