"""The networks, one a file, and how a model bundle names them."""
