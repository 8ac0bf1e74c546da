"""The method: backbone, detector, attention, sparse matching, local dense matching, and the network that wires them."""
