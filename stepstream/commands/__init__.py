"""The commands of ``stepstream``: one module each, loaded only when its command is called."""
