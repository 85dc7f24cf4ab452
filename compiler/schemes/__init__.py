"""How weight matrices are stored, one storage per file; `quantize.py` names them."""
