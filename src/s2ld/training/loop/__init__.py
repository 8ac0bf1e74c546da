"""The LightningModule (`module.py`), optimiser, callbacks, checkpoints that resume bit for bit, processes."""
