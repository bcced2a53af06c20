"""Streamlit's script of the live page: ``streamlit run app.py -- --config NAME --set KEY=VALUE``."""

from __future__ import annotations

import argparse

from streamscore.dashboard import page
from streamscore.system.console import set_up_logging


def main() -> None:
    """Read the arguments and draw the page."""
    set_up_logging()
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="local")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    page.show(arguments.config, arguments.set)


if __name__ == "__main__":
    main()
