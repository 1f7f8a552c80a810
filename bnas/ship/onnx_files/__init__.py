"""A `Program` -> ONNX files: of standard operators, of packed bits, and of QONNX for what reads that."""
