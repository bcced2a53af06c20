"""Launcher for spark-submit.

``spark-submit --jars "$(streamscore jars)" jobs/score_stream.py --help`` lists the options.
"""

from streamscore.score_stream import main

main()
