"""How the consensus learns which candidates are right: labels, loss, and a stage that trains on cached candidates."""
