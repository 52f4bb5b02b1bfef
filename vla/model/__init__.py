"""The network, its sizes, its tokens and prompts, and the folder that it is saved in."""
