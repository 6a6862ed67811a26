"""What operators run, by the programs that they run it with."""
