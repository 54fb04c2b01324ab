"""A web page to try a model, and the same page as a Space on the Hub. It needs Gradio: `pip install 'hf_ser[demo]'`."""
