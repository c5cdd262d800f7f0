"""What quantization did to a program, and vectors to hold other implementations against."""
