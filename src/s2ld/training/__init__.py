"""What trains a network. `loop/` is the LightningModule and all around it, `losses/` what a prediction costs,
`consensus/` the stage that learns on cached candidates, `validation.py` the score that chooses a checkpoint.
"""
