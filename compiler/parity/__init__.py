"""What compiled code is compared with: a reference in numpy, stored weights, known answers."""
