"""Features to classes: interchangeable classifier heads, their registry and their files."""
