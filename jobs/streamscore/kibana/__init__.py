"""The Kibana dashboard as code: its panels, the two formats that Kibana accepts, and the import."""
