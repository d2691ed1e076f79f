"""The mirror and the ratio table are programs beside the cases, not tests."""

collect_ignore = ["ratios.py", "torch_mirror.py"]
