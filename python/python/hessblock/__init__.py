"""Hessians of a neural network's loss, block by block, on any GPU and on the CPU."""
