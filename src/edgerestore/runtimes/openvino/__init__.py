"""OpenVINO: CPU, integrated GPU, NPU and its AUTO, MULTI and HETERO devices."""
