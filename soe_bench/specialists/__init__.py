"""A trained soup applied to new documents: what is read, the specialist, its gate, and the folder that is written."""
