"""What `headrace bench NAME` measures; every figure counts only after its output was checked."""
