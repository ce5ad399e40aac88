"""The corpus: sources, passages, tokenizer, embedder, domains, specialists, and the frozen artefact made of them."""
