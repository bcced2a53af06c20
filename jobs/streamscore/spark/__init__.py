"""The session, and the only doors into the JVM."""
