"""The network volume: its layout, its installers, its checks. Standard library only."""
