"""The running query: its checkpoint, its batches, its recovery after a fault, its end; it knows no scoring."""
