"""wav2vec 2.0: the network of the codec's features and of the alignment models."""
