"""How good the models are right now: what Elasticsearch knows, as figures, and the live page that shows them."""
