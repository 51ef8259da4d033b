"""The networks in PyTorch; how they are loaded and saved is not their business."""
