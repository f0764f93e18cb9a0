"""What a run says of itself: numbers beside the metrics, and where they are shown."""
