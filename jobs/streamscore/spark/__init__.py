"""The Spark session, and all access to its JVM but the message decoder's."""
