"""What the tests cannot show: faults by the dozen, torture, and figures beside the peers."""
