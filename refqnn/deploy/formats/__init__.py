"""Integer networks as files: npz, ONNX, QONNX."""
