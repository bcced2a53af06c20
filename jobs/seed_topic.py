"""Launcher for spark-submit.

``spark-submit --jars "$(streamscore jars)" jobs/seed_topic.py --help`` lists the options.
"""

from streamscore.seed_topic import main

main()
