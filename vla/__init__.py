"""The model: motion language, actions, data, training. Motion language and actions need NumPy only."""
