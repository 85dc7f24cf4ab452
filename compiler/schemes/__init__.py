"""How weight matrices are stored, one storage per file; `compiler/quantize.py` names them."""
