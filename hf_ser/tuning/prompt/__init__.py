"""Embedding prompts before every encoder layer (PEFT-SER, section II-C and equation 2), as a PEFT tuner."""
