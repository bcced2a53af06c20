"""Start a job: command line, spark-submit, supervision, notebooks."""
