"""Where pairs come from: readers, synthetic scenes, samplers and the DataModule."""
