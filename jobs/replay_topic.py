"""Launcher for spark-submit.

``spark-submit --jars "$(streamscore jars)" jobs/replay_topic.py --help`` lists the options.
"""

from streamscore.replay_topic import main

main()
