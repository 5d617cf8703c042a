"""The Python interface: a model that is loaded in one line, images in a second one."""
