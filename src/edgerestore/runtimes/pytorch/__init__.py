"""PyTorch: the CPU as the reference, and CUDA."""
