"""From a picture of any shape to the squares that a tokenizer takes."""
