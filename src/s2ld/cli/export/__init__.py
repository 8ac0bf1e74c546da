"""Commands that write the network in another form."""
