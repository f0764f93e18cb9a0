"""Operations and bytes of a step on tensors without content."""
