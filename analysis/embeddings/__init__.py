"""How far action tokens lie from words, as numbers and as pictures (the paper's figure 3)."""
