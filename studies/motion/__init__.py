"""The motion benchmark: how well labellers know what a robot is doing."""
