"""ONNX Runtime: CPU, CUDA and TensorRT."""
