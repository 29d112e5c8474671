"""The command line, one module per noun; heavy imports only inside the command that needs them."""
