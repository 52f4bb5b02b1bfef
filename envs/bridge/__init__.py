"""SimplerEnv's four Bridge tasks on SAPIEN 3."""
