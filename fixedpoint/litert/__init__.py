"""The .tflite file of a portable program, LiteRT to run it, and a self-check for microcontrollers."""
