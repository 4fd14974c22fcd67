"""Other programs that are told of a run: TensorBoard, Weights & Biases, MLflow; only when asked."""
