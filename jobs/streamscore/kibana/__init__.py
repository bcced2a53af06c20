"""The Kibana dashboard as code: what it shows, the two forms that Kibana takes it in, and the import."""
