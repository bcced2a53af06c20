"""Launcher for spark-submit.

``spark-submit --jars "$(streamscore jars)" jobs/label_stream.py --help`` lists the options.
"""

from streamscore.label_stream import main

main()
