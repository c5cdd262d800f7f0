"""Where pictures come from; each kind of source is a module, the interface is in source.py."""
