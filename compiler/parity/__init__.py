"""References for compiled code: the model in numpy, weights as stored, and known answers."""
