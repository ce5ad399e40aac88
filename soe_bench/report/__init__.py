"""Tables and figures from the committed files of a results folder alone: no torch, no network, no W&B."""
