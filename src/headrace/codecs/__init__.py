"""Wire formats, one file each: payload bytes to frames and back."""
