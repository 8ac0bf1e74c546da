"""What the command-line scripts do: arguments in, files and pictures out."""
