"""What a run would ask of devices that are not there: memory, time and money, before it starts."""
