"""What the tokenizer stage adds to plain reconstruction: sharper pictures."""
