"""Launcher for spark-submit.

``spark-submit --jars "$(streamscore jars)" jobs/train_models.py --help`` lists the options.
"""

from streamscore.train_models import main

main()
