"""What is wrong with preferences, said before they are trained on."""
