"""What trains a network: targets, losses, the LightningModule, optimiser, averaged weights, checkpoints."""
