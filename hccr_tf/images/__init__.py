"""Images of characters: decoding, cleaning, layout, contact sheets."""
