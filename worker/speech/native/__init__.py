"""C for CPUs, where torch's own kernels are not the fastest."""
