"""The C source of a program, the machine's compiler to run it, and a self-check for devices."""
