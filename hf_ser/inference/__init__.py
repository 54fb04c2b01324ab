"""What `hf_ser.pipeline` is made of: clips, timelines, their files and plots, precision, exported models."""
