"""What is written for readers: model card, comparison picture, moving picture."""
