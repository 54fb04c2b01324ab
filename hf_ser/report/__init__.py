"""What a model can do, for whom, under what conditions and at what cost."""
