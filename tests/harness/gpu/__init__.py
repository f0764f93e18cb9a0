"""What is measured on a GPU alone."""
