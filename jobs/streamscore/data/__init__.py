"""Rows that models learn from and topics are filled with."""
